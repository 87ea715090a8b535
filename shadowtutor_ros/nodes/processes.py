"""Nodes as processes, which commands start, disturb and end."""

import json
from multiprocessing import active_children
import os
from pathlib import Path
import subprocess
import sys
from types import FrameType

#: Seconds in which a node must have ended after it was told to.
END_TIMEOUT = 10.0


class ProcessError(ValueError):
    """A node that did not do what it was started for, in one line."""


def end(number: int, frame: FrameType | None) -> None:
    """End at a signal as after an error: nodes and network namespaces outlive the process else."""
    for child in active_children():
        child.terminate()
    sys.exit(128 + number)


def keep_local() -> None:
    """Let nodes started from here on meet those of this machine alone."""
    if os.environ.get('ROS_DISTRO') == 'humble':
        os.environ['ROS_LOCALHOST_ONLY'] = '1'
    else:
        os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'


def _as_yaml(value: dict) -> str:
    # JSON is YAML, with every string quoted; but in YAML a character beyond 16 bits, an emoji, is
    # one escape, not two.
    return ''.join(
        letter if letter.isascii() and letter.isprintable() else f'\\U{ord(letter):08x}'
        for letter in json.dumps(value, ensure_ascii=False))


class Nodes:
    """
    Nodes as processes of their own, ended together; one that has to be killed is an error.

    :param namespace: of them all.
    :param parameters: by node.
    :param folder: for the parameter files.
    :param logs: folder that gets a log a node.
    """

    def __init__(self, namespace: str, parameters: dict[str, dict], folder: Path, logs: Path):
        self.logs = logs
        self._namespace = namespace
        self._parameters = parameters
        self._folder = folder
        self._processes: dict[str, subprocess.Popen] = {}

    def __enter__(self) -> 'Nodes':
        return self

    def __exit__(self, *exception) -> None:
        for process in self._processes.values():
            process.terminate()
        killed = []
        for name, process in self._processes.items():
            try:
                process.wait(END_TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                killed.append(name)
        if killed:
            text = (f'killed, since it had not ended {END_TIMEOUT:.0f} s after it was told to: '
                    f"{', '.join(killed)}; see {self.logs}/*.log")
            if exception[0] is None:
                raise ProcessError(text)
            print(f'shadowtutor: {text}', file=sys.stderr)

    def start(
            self, name: str, command: tuple[str, ...] = (), arguments: tuple[str, ...] = (),
            kind: str = '') -> None:
        """
        Start a node, by a command where one is given; one that has ended may start again.

        :param arguments: further ones for ROS, such as ``-r a:=b``.
        :param kind: the node that it is, where ``name`` does not say.
        """
        path = self._folder / f'{name}.yaml'
        path.write_text(_as_yaml({'/**': {'ros__parameters': self._parameters[name]}}))
        with self.log(name).open('a' if name in self._processes else 'w') as log:
            self._processes[name] = subprocess.Popen(
                [*command, sys.executable, '-m', f'shadowtutor_ros.nodes.{kind or name}_node',
                 '--ros-args', '-r', f'__ns:={self._namespace}', '--params-file', str(path),
                 *arguments],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)

    def signal(self, name: str, number: int) -> None:
        """Send a signal to a node's process."""
        self._processes[name].send_signal(number)

    def wait(self, name: str, timeout: float) -> None:
        """Wait until a node's process has ended."""
        self._processes[name].wait(timeout)

    def running(self, name: str) -> bool:
        """Tell whether a node's process runs."""
        return self._processes[name].poll() is None

    def pid(self, name: str) -> int:
        """Return the number of a node's process."""
        return self._processes[name].pid

    def check(self, *names: str) -> None:
        """Raise ProcessError with a node's last words if it has failed."""
        for name in names:
            if self._processes[name].poll():
                lines = self.log(name).read_text(errors='replace').strip().splitlines()
                raise ProcessError(
                    f"the {name} node has failed: {lines[-1] if lines else 'it said nothing'} "
                    f'(all it said is in {self.log(name)})')

    def log(self, name: str) -> Path:
        """Return the file with all that a node says."""
        return self.logs / f'{name}.log'
