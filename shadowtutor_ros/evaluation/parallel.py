"""Tasks in several processes, with messages back to the one that started them."""

from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import (
    active_children, connection, get_context, parent_process, process, resource_tracker,
    synchronize)
import os
import pickle
from queue import SimpleQueue
import signal
import sys
from threading import Thread, Timer
import time
import traceback
from typing import Any, Callable, Iterable, Iterator

from shadowtutor_ros.models.student.inference import use_threads

#: What is called with a task and a function that sends a message.
Work = Callable[[Any, Callable[[Any], None]], None]

#: Seconds that a process has to end by itself before it is killed.
GRACE = 5.0


class WorkError(ValueError):
    """What kept a task from being done, in one line."""


def as_work_error(error: BaseException) -> WorkError:
    """Say what kept a task from being done; of what nobody thought of the traceback is printed."""
    if isinstance(error, (ValueError, OSError)):
        return WorkError(str(error))
    traceback.print_exception(error)
    return WorkError(f'a task ended with {type(error).__name__}; see above where')


def run_tasks(
        work: Work, tasks: Iterable[Any], on_message: Callable[[Any], None], jobs: int = 1,
        threads: int = 1) -> None:
    """
    Do tasks, in this process one after the other or in several processes at a time.

    No process is left when it returns or raises: those that do not end within :data:`GRACE` are
    killed.

    :param work: a function of a module.
    :param tasks: are handed to ``work``; they and the messages have to be picklable.
    :param on_message: is handed each message, in this process.
    :param jobs: processes at a time, at least 1; 1 starts none.
    :param threads: that PyTorch computes with in each; 0 for its own choice.
    :raises WorkError: if a task failed or a process was killed; the others are stopped, as by
        Ctrl-C: ``work`` ends with SystemExit, wherever it is.
    """
    tasks = list(tasks)
    jobs = min(jobs, len(tasks))
    if jobs <= 1:
        use_threads(threads)
        for task in tasks:
            work(task, on_message)
        return
    # A fork would take PyTorch's locks along in whatever state they are.
    context = get_context('spawn')
    # It would be started with the first process, and unblock Ctrl-C as it is.
    resource_tracker.ensure_running()
    others = active_children()
    inbox: SimpleQueue[bytes | Future] = SimpleQueue()
    with _ctrl_c_blocked():  # a finaliser that it interrupts while it is made says so at the end
        messages, pipe = context.Pipe(duplex=False)
        pool = ProcessPoolExecutor(jobs, context, _begin, (pipe, context.Lock(), threads))
    try:
        # The processes inherit it, until they ignore Ctrl-C by themselves.
        with _ctrl_c_blocked():
            for task in tasks:
                pool.submit(_do, work, task).add_done_callback(inbox.put)
            # The pool takes note of a new process with the call after; without one it would not
            # see the last one's end.
            pool.submit(int)
            # Held by the processes alone, its end is theirs.
            pipe.close()
            Thread(target=_forward, args=(messages, inbox), daemon=True).start()
        # A task may be known to be done before its last messages are here.
        running, missing = len(tasks), 0
        while running or missing:
            item = inbox.get()
            if isinstance(item, Future):
                running -= 1
                missing += item.result()
            else:
                missing -= 1
                on_message(pickle.loads(item))
    except BaseException as error:
        for worker in set(active_children()).difference(others):
            worker.terminate()
        if isinstance(error, BrokenProcessPool):
            raise WorkError(
                'a process ended in the middle of its task: if nothing above says why, memory was '
                'short, so use fewer --jobs') from None
        raise
    finally:
        workers = set(active_children()).difference(others)
        killer = Timer(GRACE, _kill, [workers])
        killer.start()
        try:
            pool.shutdown(cancel_futures=True)
        finally:
            killer.cancel()
            # Some may be left where Ctrl-C was pressed again.
            _kill(workers)


@contextmanager
def _ctrl_c_blocked() -> Iterator[None]:
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _kill(workers: Iterable[process.BaseProcess]) -> None:
    for worker in workers:
        worker.kill()


def _forward(messages: connection.Connection, inbox: SimpleQueue) -> None:
    """Put what comes through a pipe into a queue, where results come as well; to its end."""
    with messages:
        try:
            while True:
                inbox.put(messages.recv_bytes())
        except (EOFError, OSError):
            # A process that was killed may have left half a message.
            return


class _Outbox:
    """The end of the pipe of messages in a process that does tasks."""

    def __init__(self, pipe: connection.Connection, lock: synchronize.Lock):
        self.sent = 0
        self._pipe = pipe
        self._lock = lock
        self._sending = self.ending = False

    def send(self, message: Any) -> None:
        """Send a message, as a whole even if this process is to end meanwhile."""
        data = pickle.dumps(message)
        self._sending = True
        try:
            with self._lock:
                self._pipe.send_bytes(data)
        finally:
            self._sending = False
        self.sent += 1
        if self.ending:
            sys.exit(1)

    def end(self, *_: object) -> None:
        """End this process at a signal; another one does not disturb its last steps."""
        if not self.ending:
            self.ending = True
            if not self._sending:
                sys.exit(1)


_outbox: _Outbox | None = None


def _begin(pipe: connection.Connection, lock: synchronize.Lock, threads: int) -> None:
    """Prepare a process for its tasks."""
    global _outbox
    _outbox = _Outbox(pipe, lock)
    # Ctrl-C reaches every process of the terminal; the one that started this ends it, so that
    # what has been made can still be written.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.unraisablehook = _ignore_end
    Thread(target=_end_with_parent, daemon=True).start()
    use_threads(threads)


def _ignore_end(lost: 'sys.UnraisableHookArgs') -> None:
    """Say nothing of an end that fell into a finaliser: the next message ends this process."""
    if not isinstance(lost.exc_value, SystemExit):
        sys.__unraisablehook__(lost)


def _end_with_parent() -> None:
    """End this process when the one that started it was killed, and so cannot end it."""
    connection.wait([parent_process().sentinel])
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    os._exit(1)


def _do(work: Work, task: Any) -> int:
    """Do a task and return how many messages it sent; whatever it raises becomes a WorkError."""
    before = _outbox.sent
    try:
        # Not earlier: as long as there is nothing to clean up, the default serves, at once.
        signal.signal(signal.SIGTERM, _outbox.end)
        work(task, _outbox.send)
    except BaseException as error:
        if _outbox.ending or isinstance(error, SystemExit):
            # The pool would take it for a result, and hand out the next task.
            os._exit(1)
        raise as_work_error(error) from None
    return _outbox.sent - before
