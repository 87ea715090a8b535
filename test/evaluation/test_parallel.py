"""Work in several processes."""

from multiprocessing import active_children
import os
import signal
import subprocess
import sys
import time

import pytest

from shadowtutor_ros.evaluation import parallel
from shadowtutor_ros.evaluation.parallel import GRACE, run_tasks, WorkError

#: Seconds after which what has not ended hangs.
ENOUGH = 300


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
    if task == 'finaliser':
        Finaliser()
    if task == 'deaf':
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if task in ('hang', 'deaf'):
        emit('hanging')
        try:
            time.sleep(10 * ENOUGH)
        finally:
            emit('cleaned up')
    emit(f'{task} begins')
    emit(f'{task} ends')


class Finaliser:
    """Is told to end this process where nothing can be raised."""

    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0)


def large(task, emit):
    """Send more than a pipe holds."""
    for index in range(20):
        emit((task, index, bytes(200_000)))


@pytest.fixture
def no_process_left():
    yield
    assert active_children() == []


@pytest.mark.parametrize('jobs', [1, 3])
def test_all_messages_arrive(jobs, no_process_left):
    messages = []
    run_tasks(work, ['a', 'b', 'c', 'd'], messages.append, jobs)
    assert sorted(messages) == sorted(
        f'{task} {what}' for task in 'abcd' for what in ('begins', 'ends'))


def test_large_messages_arrive_whole_and_in_order():
    messages = []
    run_tasks(large, [0, 1, 2], messages.append, 3)
    for task in range(3):
        assert [index for one, index, data in messages if one == task] == list(range(20))
    assert all(data == bytes(200_000) for *_, data in messages)


@pytest.mark.parametrize('task, said', [
    ('fail', 'this failed'), ('die', 'memory.*--jobs'), ('crash', 'RuntimeError.*above')])
def test_a_failure_stops_the_others(task, said, capfd, no_process_left):
    with pytest.raises(WorkError, match=said) as caught:
        run_tasks(work, ['hang', task, 'a', 'b'], lambda message: None, 2)
    assert '\n' not in str(caught.value)
    # The place of a bug, and only that, is told.
    assert ('this is a bug' in capfd.readouterr().err) == (task == 'crash')


def test_an_end_that_falls_into_a_finaliser_is_one(capfd, no_process_left):
    with pytest.raises(WorkError):
        run_tasks(work, ['finaliser', 'hang'], lambda message: None, 2)
    assert 'Exception ignored' not in capfd.readouterr().err


def test_no_worker_is_open_to_ctrl_c_while_it_starts():
    messages = []
    run_tasks(work, ['mask', 'mask'], messages.append, 2)
    assert [each for each in messages if each in (True, False)] == [True, True]


def test_interruption_stops_all(no_process_left):
    def interrupt(message):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_tasks(work, ['hang', 'hang'], interrupt, 2)


@pytest.mark.parametrize('task', ['fail', 'die'])
def test_what_does_not_end_is_ended(task, no_process_left):
    with pytest.raises(WorkError):
        run_tasks(work, ['deaf', task], lambda message: None, 2)


def test_an_end_lets_work_clean_up(tmp_path, monkeypatch):
    monkeypatch.setattr(parallel, 'GRACE', ENOUGH)
    with pytest.raises(KeyboardInterrupt):
        run_tasks(leave, [tmp_path / 'a', tmp_path / 'b'], raise_at_the_second(), 2)
    assert (tmp_path / 'a').exists() and (tmp_path / 'b').exists()


def leave(path, emit):
    """Make a file at the end, whatever the end is."""
    try:
        emit('hanging')
        time.sleep(10 * ENOUGH)
    finally:
        path.touch()


def raise_at_the_second():
    messages = []

    def on_message(message):
        messages.append(message)
        if len(messages) == 2:
            raise KeyboardInterrupt
    return on_message


# --- real processes, as a terminal has them ----------------------------------------------------

def start(*tasks):
    """Run this file with tasks, in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, __file__, *tasks], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, start_new_session=True)


def finish(process):
    """Return what was said when no process is left that could say more."""
    try:
        return process.communicate(timeout=ENOUGH)[0]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise


@pytest.mark.parametrize('task', ['hang', 'deaf'])
@pytest.mark.parametrize('moment', ['starting', 'hanging'])
def test_ctrl_c_ends_every_process(task, moment):
    process = start(task, task, 'a')
    for line in process.stdout:
        if moment in line:
            break
    os.killpg(process.pid, signal.SIGINT)
    assert 'Traceback' not in finish(process) and process.returncode == 130


def test_ctrl_c_again_does_not_keep_what_does_not_end():
    process = start('deaf', 'deaf')
    for line in process.stdout:
        if 'hanging' in line:
            break
    os.killpg(process.pid, signal.SIGINT)
    time.sleep(GRACE / 5)
    os.killpg(process.pid, signal.SIGINT)
    assert 'Traceback' not in finish(process) and process.returncode == 130


@pytest.mark.parametrize('task', ['hang', 'deaf'])
def test_processes_end_with_the_one_that_started_them(task):
    process = start(task, task)
    assert sum('hanging' in line for _, line in zip(range(3), process.stdout)) == 2
    process.kill()
    assert 'Traceback' not in finish(process)


def run():
    """Do the tasks of the command line, and say what happens."""
    try:
        print('starting', flush=True)
        run_tasks(work, sys.argv[1:], lambda message: print(message, flush=True), 2)
    except KeyboardInterrupt:
        return 130


if __name__ == '__main__':
    sys.exit(run())
