"""The memory that processes take, and what is asked of the C library where that is glibc."""

import ctypes
from functools import lru_cache
import os
from pathlib import Path
from typing import Callable


def resident_bytes(pid: int | str = 'self') -> int:
    """
    Return the memory that a process has, in bytes.

    :raises OSError: where there is no such process, or the system does not say.
    """
    pages = int(Path(f'/proc/{pid}/statm').read_text().split()[1])
    return pages * os.sysconf('SC_PAGE_SIZE')


@lru_cache(maxsize=None)
def keep_freed_memory() -> None:
    """
    Let this process keep the memory that tensors leave.

    It would give it back to the kernel and fetch it again, page by page, for every frame.
    """
    # M_MMAP_THRESHOLD and M_TRIM_THRESHOLD of malloc.h; 32 MiB is the most the first takes.
    mallopt = _of_glibc('mallopt')
    mallopt(-3, 2 ** 25)
    mallopt(-1, 2 ** 29)


def give_back_memory() -> None:
    """Give the memory that this process has kept, and does not use, back to the kernel."""
    _of_glibc('malloc_trim')(0)


def _of_glibc(name: str) -> Callable[..., int]:
    """Return a function of glibc; with another C library, or on another system, a useless one."""
    try:
        return getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError, TypeError):
        return lambda *arguments: 0
