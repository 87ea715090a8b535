"""Work in several processes."""

import os
import signal
import time

import pytest

from shadowtutor_ros.evaluation.parallel import run_tasks, WorkError


def work(task, emit):
    """Do what the name of the task says."""
    if task == 'fail':
        raise ValueError('this failed')
    if task == 'crash':
        raise RuntimeError('this is a bug')
    if task == 'die':
        os.kill(os.getpid(), signal.SIGKILL)
    if task == 'mask':
        emit(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()))
    if task == 'hang':
        emit('hanging')
        time.sleep(600)
    emit(f'{task} begins')
    emit(f'{task} ends')


@pytest.mark.parametrize('jobs', [1, 3])
def test_all_messages_arrive(jobs):
    messages = []
    run_tasks(work, ['a', 'b', 'c', 'd'], messages.append, jobs)
    assert sorted(messages) == sorted(
        f'{task} {what}' for task in 'abcd' for what in ('begins', 'ends'))


@pytest.mark.parametrize('task, said', [('fail', 'this failed'), ('die', 'signal 9.*--jobs'),
                                        ('crash', 'status 1')])
def test_a_failure_stops_the_others(task, said):
    with pytest.raises(WorkError, match=said):
        run_tasks(work, ['hang', task], lambda message: None, 2)


def test_no_worker_is_open_to_ctrl_c_while_it_starts():
    messages = []
    run_tasks(work, ['mask', 'mask'], messages.append, 2)
    assert [each for each in messages if each in (True, False)] == [True, True]


def test_interruption_stops_all():
    def interrupt(message):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_tasks(work, ['hang', 'hang'], interrupt, 2)
