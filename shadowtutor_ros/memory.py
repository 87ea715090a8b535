"""The memory that processes take."""

import ctypes
import os
from pathlib import Path


def resident_bytes(pid: int | str = 'self') -> int:
    """
    Return the memory that a process has, in bytes.

    :raises OSError: where there is no such process, or the system does not say.
    """
    pages = int(Path(f'/proc/{pid}/statm').read_text().split()[1])
    return pages * os.sysconf('SC_PAGE_SIZE')


def give_back_memory() -> None:
    """Give the memory that was freed back to the kernel, where the C library is glibc."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # another C library, or another system
        return
    trim(0)
