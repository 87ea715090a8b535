"""DDS domains in which the nodes of a test meet, and no others."""

import os
import secrets

#: Domains that are drawn from: 0 is of who runs the tests, and above these ports are the system's.
_FIRST, _COUNT = 10, 84


def draw() -> int:
    """Draw a domain; where several processes run tests, none that another one of them draws."""
    count = int(os.environ.get('PYTEST_XDIST_WORKER_COUNT', 1))
    number = int(os.environ.get('PYTEST_XDIST_WORKER', 'gw0').removeprefix('gw'))
    width = _COUNT // count
    return _FIRST + number * width + secrets.randbelow(width)
