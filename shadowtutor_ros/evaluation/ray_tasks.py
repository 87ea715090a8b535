"""Tasks on a Ray cluster, with messages back to the process that started them."""

from collections.abc import Callable, Iterable, Iterator
import os
from queue import SimpleQueue
import sys
from threading import Thread
from typing import Any

from shadowtutor_ros.evaluation.parallel import as_work_error, GRACE, Work, WorkError
from shadowtutor_ros.models.student.inference import use_threads
from shadowtutor_ros.workers.cluster import connect


def run_ray_tasks(
        work: Work, tasks: Iterable[Any], on_message: Callable[[Any], None], threads: int = 1,
        gpus: float = 0.0) -> None:
    """
    Do tasks on the cluster, as many at a time as it has CPUs (and GPUs) for.

    Where a machine dies, Ray does its tasks again on another; messages come once.

    :param work, tasks, on_message: as for :func:`.parallel.run_tasks`.
    :param threads: that PyTorch computes with in each, and the CPUs that each takes; 0: its own
        choice, and one.
    :param gpus: that each takes.
    :raises WorkError: if a task failed; the others are stopped, as by Ctrl-C: ``work`` ends with
        SystemExit at its next message.
    :raises WorkersError: if there is no cluster.
    """
    ray = connect()
    do = ray.remote(_do).options(
        num_returns='streaming', num_cpus=max(1, threads), num_gpus=gpus,
        scheduling_strategy='SPREAD')
    running = [do.remote(work, task, threads, os.getcwd()) for task in tasks]
    try:
        while running:
            ready, _ = ray.wait(running, num_returns=1, fetch_local=False)
            for each in ready:
                try:
                    on_message(ray.get(next(each)))
                except StopIteration:
                    running.remove(each)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, WorkError):
            raise WorkError(str(error.cause)) from None
        raise WorkError(f'a task ended with {error.cause!r:.300}') from None
    except ray.exceptions.RayError as error:
        raise WorkError(
            f"the Ray cluster has given a task up ({' '.join(str(error).split())[:300]}): if "
            'memory was short, give --threads more, so that fewer run at a time') from None
    finally:
        for each in running:
            ray.cancel(each)
        if running:  # they write what they have made
            ray.wait([each.completed() for each in running], num_returns=len(running),
                     timeout=GRACE)


class _Broken(SystemExit):
    """The task is broken off."""


def _do(work: Work, task: Any, threads: int, folder: str) -> Iterator[Any]:
    """Do a task, and yield its messages; whatever it raises becomes a WorkError."""
    try:
        os.chdir(folder)
    except OSError as error:
        raise WorkError(
            f"a machine of the cluster has not the folder '{folder}' ({error.strerror}): videos "
            'and folders have to be at the same places on all of them') from None
    use_threads(threads)
    messages: SimpleQueue = SimpleQueue()
    state = {'broken': False}

    def emit(message: Any) -> None:
        if state['broken']:
            raise _Broken
        messages.put(('message', message))

    def run() -> None:
        try:
            work(task, emit)
        except _Broken:
            pass
        except BaseException as error:
            messages.put(('error', as_work_error(error)))
        messages.put(('end', None))

    # Work calls, and a generator is called: one of them has a thread of its own.
    thread = Thread(target=run, daemon=True)
    thread.start()
    try:
        while True:
            kind, content = messages.get()
            if kind == 'error':
                sys.stderr.flush()
                raise content
            if kind == 'end':
                return
            yield content
    finally:
        # Broken off by whoever asked; what has been made can still be written.
        state['broken'] = True
        thread.join(GRACE)
