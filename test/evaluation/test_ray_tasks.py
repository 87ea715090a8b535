"""Tasks on a Ray cluster of this machine."""

import os
from pathlib import Path
import time

import pytest

from shadowtutor_ros.evaluation.parallel import WorkError

ray = pytest.importorskip('ray', reason='ray is not installed')

from shadowtutor_ros.evaluation.ray_tasks import run_ray_tasks  # noqa: E402

#: Seconds after which what has not ended hangs.
ENOUGH = 300


@pytest.fixture(scope='module', autouse=True)
def cluster():
    """Have a small cluster of this machine, that all tests here share."""
    patch = pytest.MonkeyPatch()
    # What it runs has to find this file.
    patch.setenv('PYTHONPATH', os.pathsep.join(
        [str(Path(__file__).parent), os.environ.get('PYTHONPATH', '')]))
    ray.init('local', num_cpus=2, include_dashboard=False, logging_level='ERROR',
             object_store_memory=100 * 2 ** 20)
    yield
    ray.shutdown()
    patch.undo()


def work(task, emit):
    """Do what the name of the task says."""
    name, path = task
    if name == 'fail':
        raise ValueError('this failed')
    if name == 'crash':
        raise RuntimeError('this is a bug')
    if name == 'hang':
        try:
            while True:
                emit('hanging')
                time.sleep(0.05)
        finally:
            open(path, 'x').close()
    for index in range(20):
        emit((name, index, bytes(200_000)))


def test_messages_arrive_whole_and_in_order():
    messages = []
    run_ray_tasks(work, [(name, '') for name in 'abc'], messages.append)
    for name in 'abc':
        assert [index for one, index, _ in messages if one == name] == list(range(20))
    assert all(data == bytes(200_000) for *_, data in messages)


@pytest.mark.parametrize('name, said', [('fail', 'this failed'), ('crash', 'RuntimeError.*above')])
def test_a_failure_stops_the_others_which_clean_up(name, said, tmp_path):
    begun = []

    def on_message(message):
        begun.append(message)

    path = tmp_path / 'cleaned up'
    with pytest.raises(WorkError, match=said) as caught:
        run_ray_tasks(work, [('hang', path), (name, '')], on_message)
    assert '\n' not in str(caught.value)
    if begun:
        end = time.monotonic() + ENOUGH
        while not path.exists():
            assert time.monotonic() < end
            time.sleep(0.1)


def test_interruption_stops_all(tmp_path):
    def interrupt(message):
        raise KeyboardInterrupt

    path = tmp_path / 'cleaned up'
    with pytest.raises(KeyboardInterrupt):
        run_ray_tasks(work, [('hang', path)], interrupt)
    end = time.monotonic() + ENOUGH
    while not path.exists():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_a_folder_that_another_machine_has_not_is_one_clear_error(tmp_path, monkeypatch):
    folder = tmp_path / 'gone'
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    # The process stands in a folder that is no more; so it is on a machine that never had it.
    monkeypatch.setattr(os, 'getcwd', lambda: str(folder))
    with pytest.raises(WorkError, match='has not the folder'):
        run_ray_tasks(work, [('a', '')], lambda message: None)
