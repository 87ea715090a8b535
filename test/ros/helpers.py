"""What the tests with nodes share."""

import time


class Said:
    """What nodes have said by now; so much of it as nobody else has read."""

    def __init__(self, capfd):
        self._capfd = capfd
        self._text = ''

    def __call__(self):
        self._text += self._capfd.readouterr().err
        return self._text


def wait_for(condition, timeout=120.0):
    """Wait until a condition holds; fail where that would be for ever, even on a busy machine."""
    end = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < end, f'not true after {timeout} s'
        time.sleep(0.01)
    return value
