"""Keeps the sessions of a teacher's robots, so that they last longer than who works on them."""

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
import math
import threading
import time
from typing import Any

from shadowtutor_ros.algorithms import SessionError
from shadowtutor_ros.nodes.session_files import SessionFiles
from shadowtutor_ros.workers.base import Workers, WorkersError


@dataclass(eq=False)
class _Session:
    key_frames: str
    #: Whether it has changed since it was saved last, and when that was, on the performance
    #: counter.
    changed: bool = False
    saved: float = 0.0
    gone: bool = False


class SessionKeeper:
    """
    Gives sessions to workers, and has a thread that takes them from there and saves them.

    :param files: where they are saved; None: nowhere.
    :param workers: who work on them.
    :param period: gives the seconds from one time that a session is saved to the next.
    :param logger: of the node.
    """

    def __init__(
            self, files: SessionFiles | None, workers: Workers, period: Callable[[], float],
            logger: Any):
        self._files = files
        self._workers = workers
        self._period = period
        self._logger = logger
        self._sessions: dict[int, _Session] = {}
        self._work = threading.Condition()
        self._closed = False
        self.thread = threading.Thread(target=self._run, name='sessions', daemon=True)
        self.thread.start()

    def add(self, name: str, key_frames: str, robot: int) -> None:
        """
        Make a robot's place at the workers, with the session that it goes on from, if any.

        :param name: of the robot, for people.
        :param key_frames: the topic of its key frames, by which its session is found.
        :param robot: its number.
        """
        path = self._files and self._files.path(key_frames)

        def refuse(error: Exception) -> None:
            self._logger.warning(
                f'{name} begins anew, since its session in {path} cannot be gone on from: {error}')

        kept = None
        if self._files is not None:
            try:
                kept = self._files.load(key_frames)
            except (SessionError, OSError) as error:
                refuse(error)

        def tell(begun: Future) -> None:
            if (error := begun.exception()) is not None:
                return refuse(error)
            number, last = begun.result()
            self._logger.info(
                f'{name}: goes on after key frame {last} of session {number}, from {path}')

        begun = self._workers.add(robot, kept)
        if kept is not None:
            begun.add_done_callback(tell)
        with self._work:
            self._sessions[robot] = _Session(key_frames, saved=time.perf_counter())

    def remove(self, robot: int) -> None:
        """Give up a robot's place, once its session is saved."""
        with self._work:
            session = self._sessions[robot]
            session.gone, session.saved = True, -math.inf  # so that it is due
            self._work.notify()

    def note(self, robot: int) -> None:
        """Note that a robot's session has changed."""
        with self._work:
            if robot in self._sessions and not self._sessions[robot].changed:
                self._sessions[robot].changed = True
                self._work.notify()

    def close(self) -> None:
        """Let the thread save what has changed, and end."""
        with self._work:
            self._closed = True
            self._work.notify()

    def _run(self) -> None:
        while True:
            with self._work:
                while not (due := self._due()) and not self._closed:
                    self._work.wait(self._next_due())
                if self._closed:
                    due = dict(self._sessions)
            for robot, session in due.items():
                if session.changed and (self._files is not None or self._workers.keeps):
                    session.changed, session.saved = False, time.perf_counter()
                    self._save(robot, session)
                if session.gone:
                    self._workers.remove(robot)
                    with self._work:
                        del self._sessions[robot]
            if self._closed:
                return

    def _due(self) -> dict[int, _Session]:
        now, period = time.perf_counter(), self._period()
        return {robot: session for robot, session in self._sessions.items() if session.gone or (
            session.changed and now - session.saved >= period)}

    def _next_due(self) -> float | None:
        """Return the seconds until the next is due; None where none has changed."""
        now, period = time.perf_counter(), self._period()
        return min((max(0.0, session.saved + period - now)
                    for session in self._sessions.values() if session.changed), default=None)

    def _save(self, robot: int, session: _Session) -> None:
        try:
            kept = self._workers.export(robot)
            if kept is not None and self._files is not None:
                self._files.save(session.key_frames, *kept)
        except WorkersError as error:
            session.changed = True  # so that it is tried again
            self._logger.warning(
                f'the session of {session.key_frames} is not saved before the next time, since '
                f'{error}', throttle_duration_sec=30.0)
        except Exception as error:  # of the disk, or of a GPU; robots are served all the same
            where = f'in {self._files.folder}' if self._files is not None else ''
            self._logger.error(
                f'sessions cannot be saved {where} ({type(error).__name__}: {error}): a restarted '
                'teacher will begin anew; make room, or set state_folder',
                throttle_duration_sec=600.0)
