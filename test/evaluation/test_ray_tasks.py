"""Tasks on a Ray cluster of this machine."""

import json
import os
from pathlib import Path
import shutil
import signal
import subprocess
import sys
import time

import cv2
import pytest

from shadowtutor_ros.commands.main import main
from shadowtutor_ros.evaluation.parallel import WorkError
from shadowtutor_ros.world.scenes import Scene

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


@pytest.fixture
def video(tmp_path, monkeypatch):
    """Return a short video of the scene; labels are kept in a folder of the test."""
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    scene, path = Scene(1, 'day', 320, 180), str(tmp_path / 'scene.mp4')
    writer = cv2.VideoWriter(path, cv2.VideoWriter_fourcc(*'mp4v'), 25, (320, 184))
    for index in range(12):
        writer.write(cv2.resize(scene.render(index).image, (320, 184)))
    writer.release()
    return path


def options(video, out, *more):
    return ['evaluate', video, '--teacher', 'scene', '--width', '320', '--methods', 'wild,partial',
            '--update-delay', '1,8', '--out', str(out), *more]


def runs(out):
    return json.loads((out / 'results.json').read_text())['runs']


def test_the_command_gives_the_same_results_on_a_cluster(video, tmp_path):
    assert main(options(video, tmp_path / 'here')) == 0
    shutil.rmtree(tmp_path / 'cache')  # the labels are made on the cluster, too
    assert main(options(video, tmp_path / 'there', '--ray')) == 0
    here, there = runs(tmp_path / 'here'), runs(tmp_path / 'there')
    assert len(here) == 3 and all(run['frames'] == 12 for run in there)
    for one, other in zip(here, there):
        assert one['method'] == other['method'] and one['miou_by_frame'] == other['miou_by_frame']


def test_the_command_can_be_interrupted_and_gone_on_with(video, tmp_path):
    out = tmp_path / 'out'
    command = options(video, out, '--set', 'max_updates=40', '--set', 'threshold=0.99')
    # Without the cluster of this process it makes one of its own.
    process = subprocess.Popen(
        [sys.executable, '-m', 'shadowtutor_ros.commands.main', *command, '--ray'],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        cwd=Path(__file__).parents[2])
    said = []
    for line in process.stdout:
        said.append(line)
        if 'wild: mIoU' in line:
            break
    os.killpg(process.pid, signal.SIGINT)
    said.append(process.stdout.read())
    assert process.wait(ENOUGH) == 130, ''.join(said)
    assert 'interrupted' in said[-1] and 'Traceback' not in ''.join(said)
    assert 1 <= len(runs(out)) < 3 and (out / 'tables.md').is_file()
    assert main([*command, '--resume']) == 0
    assert len(runs(out)) == 3
