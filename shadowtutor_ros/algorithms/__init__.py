"""The algorithms of the paper, each under its own name: no ROS, no files, no sockets, no clock."""


class SessionError(ValueError):
    """What is kept of a session cannot be gone on from; one line says why."""
