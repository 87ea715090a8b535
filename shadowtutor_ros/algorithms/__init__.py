"""The algorithms of the paper, each under its own name: no ROS, no files, no sockets, no clock."""


from typing import Any, TypeVar

T = TypeVar('T')


class SessionError(ValueError):
    """What is kept of a session cannot be gone on from; one line says why."""


def part(named: dict[str, T], prefix: str) -> dict[str, T]:
    """Return what has names that begin with a prefix, by the rest of their names."""
    return {name.removeprefix(prefix): value for name, value in named.items()
            if name.startswith(prefix)}


def check_origin(meta: dict[str, Any], model_id: str, weights_file: int) -> None:
    """
    Check that what was kept is of a model and a weights file.

    :param meta: holds what it is of.
    :raises SessionError: if that is another.
    :raises KeyError, TypeError: if it does not say so.
    """
    for name, own, said in (('model', model_id, meta['model_id']),
                            ('weights file', weights_file, meta['weights_file'])):
        if own != said:
            raise SessionError(f'it is of another {name}')
