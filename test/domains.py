"""DDS domains in which the nodes of a test meet, and no others."""

import fcntl
import os
from pathlib import Path
import secrets
import tempfile
from typing import IO

#: Domains that are drawn from: 0 is of who runs the tests, and above these ports are the system's.
_FIRST, _COUNT = 10, 84
#: Domains that this process keeps for itself: nodes of the tests before may still be ending.
_KEPT = 8

_kept: list[IO] = []


def draw() -> int:
    """Draw a domain that no process on this machine that runs tests has drawn of late."""
    if len(_kept) >= _KEPT:
        _kept.pop(0).close()
    while True:
        domain = _FIRST + secrets.randbelow(_COUNT)
        file = (Path(tempfile.gettempdir()) / f'shadowtutor-{os.getuid()}-domain-{domain}').open(
            'w')
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
        else:
            _kept.append(file)
            return domain
