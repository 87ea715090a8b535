"""Tasks in several processes, with messages back to the one that started them."""

from multiprocessing import connection, get_context, process, resource_tracker
import signal
import sys
from typing import Any, Callable, Iterable

from shadowtutor_ros.models.inference import use_threads

#: What is called with a task and a function that sends a message.
Work = Callable[[Any, Callable[[Any], None]], None]


class WorkError(ValueError):
    """What kept a task from being done, in one line."""


def run_tasks(
        work: Work, tasks: Iterable[Any], on_message: Callable[[Any], None], jobs: int = 1,
        threads: int = 1) -> None:
    """
    Do tasks, in this process one after the other or in several processes at a time.

    :param work: a function of a module.
    :param tasks: are handed to ``work``; they and the messages have to be picklable.
    :param on_message: is handed each message, in this process.
    :param jobs: processes at a time, at least 1; 1 starts none.
    :param threads: that PyTorch computes with in each; 0 for its own choice.
    :raises WorkError: if a task failed; the others are stopped, as by Ctrl-C.
    """
    waiting = list(tasks)
    jobs = min(jobs, len(waiting))
    if jobs <= 1:
        use_threads(threads)
        for task in waiting:
            work(task, on_message)
        return
    # A fork would take PyTorch's locks along in whatever state they are.
    context = get_context('spawn')
    # It would be started with the first process, and unblock Ctrl-C as it is.
    resource_tracker.ensure_running()
    workers: dict[connection.Connection, process.BaseProcess] = {}
    try:
        for _ in range(jobs):
            here, there = context.Pipe()
            worker = context.Process(target=_serve, args=(work, there, threads), daemon=True)
            # It inherits that Ctrl-C is blocked, until it ignores it by itself.
            blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            try:
                worker.start()
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            # Held by the worker alone, its end is the end of the worker.
            there.close()
            workers[here] = worker
            here.send(waiting.pop(0))
        busy = set(workers)
        while busy:
            for pipe in connection.wait(busy):
                try:
                    what, message = pipe.recv()
                except EOFError:
                    workers[pipe].join()
                    status = workers[pipe].exitcode
                    raise WorkError(
                        f'a process was ended by signal {-status}: if memory was short, use fewer '
                        '--jobs' if status < 0 else
                        f'a process ended with status {status}; it says above why') from None
                if what == 'message':
                    on_message(message)
                elif what == 'error':
                    raise WorkError(message)
                elif waiting:
                    pipe.send(waiting.pop(0))
                else:
                    busy.remove(pipe)
    finally:
        for worker in workers.values():
            worker.terminate()
        for worker in workers.values():
            worker.join()


def _serve(work: Work, pipe: connection.Connection, threads: int) -> None:
    """Do the tasks that come through a pipe, until it ends."""
    # Ctrl-C reaches every process of the terminal; the one that started this ends it, so that
    # what has been made can still be written.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    use_threads(threads)
    while True:
        try:
            task = pipe.recv()
        except EOFError:
            return
        try:
            work(task, lambda message: pipe.send(('message', message)))
        except (ValueError, OSError) as error:
            pipe.send(('error', str(error)))
        else:
            pipe.send(('done', None))
