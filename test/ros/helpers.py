"""What the tests with nodes share."""

import time


def wait_for(condition, timeout=20.0):
    """Wait until a condition holds; fail if it does not."""
    end = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < end, f'not true after {timeout} s'
        time.sleep(0.01)
    return value
