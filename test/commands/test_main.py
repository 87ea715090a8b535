"""The command as a whole."""

import subprocess
import sys

CTRL_C_IN_A_FINALISER = """
import os, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
from shadowtutor_ros.commands import fuzz, main


class Finaliser:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0)


def run(arguments):
    Finaliser()
    time.sleep(600)


fuzz.run = run
sys.exit(main.main(['fuzz']))
"""


def test_ctrl_c_counts_where_nothing_can_be_raised():
    done = subprocess.run(
        [sys.executable, '-c', CTRL_C_IN_A_FINALISER], capture_output=True, text=True,
        timeout=300)
    assert done.returncode == 130, done.stderr
    assert done.stderr == 'shadowtutor: interrupted\n'
