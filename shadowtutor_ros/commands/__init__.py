"""The command `shadowtutor` and its subcommands."""

from multiprocessing import active_children
import sys
from types import FrameType


class CommandError(ValueError):
    """What keeps a command from doing its work, in one line."""


def end(number: int, frame: FrameType | None) -> None:
    """End at a signal as after an error: nodes and network namespaces outlive the process else."""
    for child in active_children():
        child.terminate()
    sys.exit(128 + number)
