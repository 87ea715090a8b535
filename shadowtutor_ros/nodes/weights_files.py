"""The weights that a student runs, on a disk: to go on with, and to be used elsewhere."""

from collections import deque
from datetime import datetime, timezone
import json
import math
from pathlib import Path
import threading
import time
from typing import Any, Callable
from urllib.parse import quote

from shadowtutor_ros import __version__
from shadowtutor_ros.classes import ClassTable
from shadowtutor_ros.models.student.base import Student, Weights
from shadowtutor_ros.nodes.session_files import load_kept, VERSION

#: What a client exports: weights and what JSON can hold.
State = tuple[Weights, dict[str, Any]]


class WeightsFiles:
    """
    The files of a student node: weights files as any other, that hold what it exports besides.

    :param folder: is made where it is not there; others may have files in it.
    :param node: its name, fully qualified; no two robots have the same.
    :param student: of its weights file, which is named with what is made of it.
    """

    def __init__(self, folder: Path, node: str, student: Student):
        self.folder = folder
        #: The file to go on with.
        self.path = folder / f'{quote(node, safe="")}.safetensors'
        self._node = node
        self._student = student

    def load(self) -> State | None:
        """
        Load what was kept.

        :returns: None where nothing was.
        :raises SessionError: if it is no such file, or of another version.
        :raises OSError: if it cannot be read.
        """
        return load_kept(self.path)

    def save(self, state: State) -> None:
        """
        Save what is run in place of what was kept before, which stays where that fails.

        :raises OSError: if it cannot be written.
        """
        self._write(state, self.path, datetime.now(timezone.utc))

    def save_as_new(self, state: State) -> Path:
        """
        Save what is run in a file that is named by node and time.

        :returns: the file.
        :raises OSError: if it cannot be written.
        """
        now = datetime.now(timezone.utc)
        path = self.folder / '{}_{:%Y%m%dT%H%M%S}.{:03}Z.safetensors'.format(
            self._node.strip('/').replace('/', '_'), now, now.microsecond // 1000)
        self._write(state, path, now)
        return path

    def _write(self, state: State, path: Path, now: datetime) -> None:
        weights, meta = state
        about = self._student.about
        licence = about.get('licence', 'its weights file: not said')
        if meta['weights_version']:
            licence += '; what a teacher made of it: not said'
        recipe = {
            'command': f'student_node {self._node}', 'version': __version__,
            'time': now.isoformat(timespec='seconds'),
            'weights_version': meta['weights_version'],
            'start': {'checksum': f"{meta['weights_file']:08x}",
                      'recipe': _value(about.get('recipe', 'null'))}}
        student = self._student.copy_with(weights, ClassTable.from_dict(meta['classes']))
        student.save(path, **{
            **about, 'licence': licence, 'recipe': json.dumps(recipe), 'version': VERSION,
            'session': json.dumps(meta)})


def _value(text: str) -> Any:
    """Read JSON; what is none, as in a file that somebody else has written, stays a text."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


class WeightsKeeper:
    """
    A thread that writes the weights, so that nothing else waits for a disk.

    :param files: that it writes.
    :param keep: whether it keeps each state that it is handed, or only saves when it is asked to.
    :param period: gives the seconds from one time that a state is kept to the next.
    :param said: is told of each try to keep one, by the thread: the error, or None.
    :param state: that there is at the beginning, and need not be kept.

    :ivar thread: ends after :meth:`close`.
    """

    def __init__(
            self, files: WeightsFiles, keep: bool, period: Callable[[], float],
            said: Callable[[Exception | None], None], state: State):
        self._files = files
        self._keep = keep
        self._period = period
        self._said = said
        self._state = state
        self._is_kept = True
        self._asked: deque[Callable[[Path | Exception], None]] = deque()
        self._closed = False
        self._work = threading.Condition()
        self.thread = threading.Thread(target=self._run, name='weights', daemon=True)

    def put(self, state: State) -> None:
        """Take what is run from now on; at once, from any thread."""
        with self._work:
            self._state, self._is_kept = state, not self._keep
            self._work.notify()

    def save_as_new(self, done: Callable[[Path | Exception], None]) -> None:
        """
        Save what is run now in a file of its own.

        :param done: is called by the thread, with the file or with what has gone wrong.
        """
        with self._work:
            self._asked.append(done)
            self._work.notify()

    def close(self) -> None:
        """Keep what is not kept yet, and end."""
        with self._work:
            self._closed = True
            self._work.notify()

    def _run(self) -> None:
        kept = -math.inf
        while True:
            with self._work:
                while not (self._closed or self._asked):
                    due = None if self._is_kept else kept + self._period() - time.monotonic()
                    if due is not None and due <= 0:
                        break
                    # At most a second, so that a period changed meanwhile takes effect.
                    self._work.wait(due and min(due, 1.0))
                asked = self._asked.popleft() if self._asked else None
                state, closed = self._state, self._closed
                keep = not asked and not self._is_kept
            if asked:
                try:
                    asked(self._files.save_as_new(state))
                except Exception as error:  # of the disk; who asked is told
                    asked(error)
                continue
            if keep:
                kept = time.monotonic()
                try:
                    self._files.save(state)
                except Exception as error:  # of the disk; masks go on all the same
                    self._said(error)
                else:
                    self._said(None)
                    with self._work:
                        self._is_kept = self._state is state
            if closed:
                return
