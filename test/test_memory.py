"""The memory that processes take."""

import subprocess
import sys

import pytest
from shadowtutor_ros.memory import resident_bytes

#: Frees fifty megabytes in blocks, and says what the process has before and after.
PROGRAM = """
from shadowtutor_ros.memory import give_back_memory, keep_freed_memory, resident_bytes
keep_freed_memory()
blocks = [b'x' * 100_000 for _ in range(500)]
last = b'x' * 100_000  # what is behind them stays
del blocks
kept = resident_bytes()
give_back_memory()
print(kept, resident_bytes())
"""


def test_freed_memory_is_given_back_when_it_is_asked_for():
    said = subprocess.run([sys.executable, '-c', PROGRAM], capture_output=True, text=True)
    kept, left = map(int, said.stdout.split())
    assert kept - left > 40e6, said.stderr


def test_a_process_that_is_not_there_has_no_memory():
    assert resident_bytes() > 1e6
    with pytest.raises(OSError):
        resident_bytes(2 ** 30)
