"""Work in several processes, with messages back to the one that started them."""

from multiprocessing import connection, get_context, process
import signal
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
    if jobs == 1:
        use_threads(threads)
        for task in tasks:
            work(task, on_message)
        return
    # A fork would take PyTorch's locks along in whatever state they are.
    context = get_context('spawn')
    waiting = list(tasks)
    running: dict[connection.Connection, process.BaseProcess] = {}
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                receiver, sender = context.Pipe(duplex=False)
                worker = context.Process(
                    target=_work, args=(work, waiting.pop(0), sender, threads), daemon=True)
                worker.start()
                # Held by the worker alone, its end is the end of the worker.
                sender.close()
                running[receiver] = worker
            for receiver in connection.wait(running):
                try:
                    failed, message = receiver.recv()
                except EOFError:
                    worker = running.pop(receiver)
                    worker.join()
                    if worker.exitcode:
                        raise WorkError(
                            f'a process ended with status {worker.exitcode}: if it was killed '
                            'for want of memory, use fewer --jobs') from None
                    continue
                if failed:
                    raise WorkError(message)
                on_message(message)
    finally:
        for worker in running.values():
            worker.terminate()
        for worker in running.values():
            worker.join()


def _work(work: Work, task: Any, sender: connection.Connection, threads: int) -> None:
    # Ctrl-C reaches every process of the terminal; the one that started this stops it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    use_threads(threads)
    try:
        work(task, lambda message: sender.send((False, message)))
    except (ValueError, OSError) as error:
        sender.send((True, str(error)))
