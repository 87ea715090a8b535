"""The command `shadowtutor` and its subcommands."""

from collections.abc import Iterator
from contextlib import contextmanager


class CommandError(ValueError):
    """What keeps a command from doing its work, in one line."""


@contextmanager
def needing_ros() -> Iterator[None]:
    """Say what to do where an import fails for want of ROS 2, or of this package's messages."""
    try:
        yield
    except ImportError as error:
        raise CommandError(
            f'ROS 2 or the messages of this package are missing ({error}): run make setup and '
            'use .venv/bin/shadowtutor, or source the workspace') from None
