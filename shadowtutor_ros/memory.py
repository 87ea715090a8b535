"""The memory that processes take."""

import os
from pathlib import Path


def resident_bytes(pid: int | str = 'self') -> int:
    """
    Return the memory that a process has, in bytes.

    :raises OSError: where there is no such process, or the system does not say.
    """
    pages = int(Path(f'/proc/{pid}/statm').read_text().split()[1])
    return pages * os.sysconf('SC_PAGE_SIZE')
