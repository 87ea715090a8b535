"""What the tests with nodes share."""

import time


def wait_for(condition, timeout=120.0):
    """Wait until a condition holds; fail where that would be for ever, even on a busy machine."""
    end = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < end, f'not true after {timeout} s'
        time.sleep(0.01)
    return value
