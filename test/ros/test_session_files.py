"""Sessions on a disk, and a teacher that is started again."""

import os
from pathlib import Path

from helpers import Said, wait_for
import numpy as np
import pytest
from sensor_msgs.msg import Image
from std_msgs.msg import Header
import torch

from shadowtutor_ros.algorithms import SessionError
from shadowtutor_ros.algorithms.server import Server
from shadowtutor_ros.msg import WeightUpdate
from shadowtutor_ros.nodes import session_files
from shadowtutor_ros.nodes.images import to_message
from shadowtutor_ros.nodes.session_files import SessionFiles, state_folder
from shadowtutor_ros.nodes.student_node import StudentNode
from shadowtutor_ros.nodes.teacher_node import TeacherNode

TENSORS = {'a': torch.arange(6.).view(2, 3), 'b': torch.zeros(3, dtype=torch.uint8)}
META = {'session': {'id': 2 ** 63, 'name': '/robot1/student'}}


@pytest.fixture
def files(tmp_path):
    return SessionFiles(tmp_path / 'made' / 'for it')


def test_what_is_saved_is_loaded(files):
    assert files.load('/robot1/key_frames') is None
    files.save('/robot1/key_frames', TENSORS, META)
    tensors, meta = files.load('/robot1/key_frames')
    assert meta == META and tensors.keys() == TENSORS.keys()
    assert all(torch.equal(tensors[name], TENSORS[name]) for name in TENSORS)
    assert files.load('/robot2/key_frames') is None


def test_robots_have_files_of_their_own_in_the_folder(files):
    names = ['/key_frames', '/a/key_frames', '/a_key_frames', '/../../etc/key_frames']
    paths = {files.path(name) for name in names}
    assert len(paths) == 4 and {path.parent for path in paths} == {files.folder}


@pytest.mark.parametrize('spoil', [
    lambda data: data[:len(data) // 2], lambda data: b'', lambda data: b'\x00' * 100,
    lambda data: data + b'x', lambda data: data.replace(b'"1"', b'"7"'),
    lambda data: data.replace(b'\\"session\\"', b'{{session\\"'),
    lambda data: b'\x89PNG' + data])
def test_a_file_that_is_torn_or_foreign_is_one_clear_error(files, spoil):
    files.save('/a/key_frames', TENSORS, META)
    path = files.path('/a/key_frames')
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(SessionError) as raised:
        files.load('/a/key_frames')
    assert '\n' not in str(raised.value)


def test_what_cannot_be_saved_leaves_what_was(files, monkeypatch):
    files.save('/a/key_frames', TENSORS, META)

    def full(*arguments):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(session_files, 'save_file', full)
    with pytest.raises(OSError, match='No space left'):
        files.save('/a/key_frames', TENSORS, {'session': {}})
    assert files.load('/a/key_frames')[1] == META
    assert [path.name for path in files.folder.iterdir()] == [files.path('/a/key_frames').name]


def test_folders_as_they_are_written(monkeypatch):
    monkeypatch.setenv('ROS_HOME', '/data/ros')
    assert state_folder('~/.ros/shadowtutor') == Path('/data/ros/shadowtutor')
    assert state_folder('~/.rosette') == Path.home() / '.rosette'
    monkeypatch.delenv('ROS_HOME')
    assert state_folder('~/.ros/shadowtutor') == Path.home() / '.ros' / 'shadowtutor'
    assert state_folder('/var/lib/tutor') == Path('/var/lib/tutor')
    assert state_folder('') is None


# --- over DDS ------------------------------------------------------------------------------------

class Scene:
    """A student, and frames for it, one after the other."""

    def __init__(self, ros, weights):
        self.updates = ros.collect(WeightUpdate, 'weight_updates')
        self.student = ros.start(
            StudentNode, weights=weights, min_stride=1, max_stride=1, stride_rate=0.0, **{
                'qos_overrides__/image__subscription__reliability': 'reliable'})
        self.masks = ros.collect(Image, 'segmentation/mask')
        self.images = ros.publisher(Image, 'image')
        self.frame = np.random.default_rng(1).integers(0, 256, (64, 96, 3), dtype=np.uint8)

    def play_until(self, condition):
        def step():
            before = len(self.masks)
            self.images.publish(to_message(self.frame, 'bgr8', Header()))
            wait_for(lambda: len(self.masks) > before)
            return condition()
        wait_for(step)


def start(ros, weights, **parameters):
    return ros.start(TeacherNode, **{
        'weights': weights, 'teacher': 'stub_teachers:HalfPerson', 'max_updates': 3,
        'threshold': 0.98, **parameters})


def test_a_teacher_that_is_started_again_goes_on(ros, weights, capfd):
    teacher = start(ros, weights)
    scene = Scene(ros, weights)
    counters = scene.student.client.counters
    wait_for(lambda: scene.student._teachers.present)
    scene.play_until(lambda: counters.updates_applied >= 4)
    scene.play_until(lambda: not scene.student.client.awaiting_update)
    ros.stop(teacher)
    before = scene.updates[-1].metric_after
    folder = Path(os.environ['ROS_HOME']) / 'shadowtutor'
    assert [path.name for path in folder.iterdir()] == ['%2Fkey_frames.session']

    wait_for(lambda: not scene.student._teachers.present)
    count = len(scene.updates)
    start(ros, weights)
    assert 'goes on after key frame' in capfd.readouterr().err
    scene.play_until(lambda: len(scene.updates) > count)
    update = scene.updates[count]
    # It knows what the robot runs, and so asks nothing of it.
    assert not update.label and update.metric_before > before - 0.01
    assert not counters.updates_rejected


def test_a_session_that_cannot_be_gone_on_from_is_said_once(ros, weights, tmp_path, capfd):
    folder = tmp_path / 'state'
    folder.mkdir()
    path = folder / '%2Fkey_frames.session'
    path.write_bytes(b'what is this')
    start(ros, weights, state_folder=str(folder))
    said = capfd.readouterr().err
    assert said.count('begins anew') == 1 and str(path) in said
    scene = Scene(ros, weights)
    wait_for(lambda: scene.student._teachers.present)
    scene.play_until(lambda: scene.student.client.counters.updates_applied)


def test_a_disk_that_is_full_is_said_and_robots_are_served(
        ros, weights, tmp_path, capfd, monkeypatch):
    def full(*arguments):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(session_files, 'save_file', full)
    start(ros, weights, state_folder=str(tmp_path / 'state'), save_period=1.0)
    scene = Scene(ros, weights)
    wait_for(lambda: scene.student._teachers.present)
    said = Said(capfd)
    scene.play_until(lambda: 'No space left on device' in said())
    applied = scene.student.client.counters.updates_applied
    scene.play_until(lambda: scene.student.client.counters.updates_applied > applied)
    assert said().count('No space left') == 1


def test_without_a_folder_nothing_is_kept(ros, weights):
    teacher = start(ros, weights, state_folder='', save_period=1.0)
    scene = Scene(ros, weights)
    wait_for(lambda: scene.student._teachers.present)
    scene.play_until(lambda: scene.student.client.counters.updates_applied >= 2)
    ros.stop(teacher)
    assert not (Path(os.environ['ROS_HOME']) / 'shadowtutor').exists()


def test_a_robot_that_falls_silent_is_saved_too(ros, weights, tmp_path):
    folder = tmp_path / 'state'
    start(ros, weights, state_folder=str(folder), save_period=1.0)
    scene = Scene(ros, weights)
    wait_for(lambda: scene.student._teachers.present)
    scene.play_until(lambda: scene.updates)
    # Nothing comes any more, and nobody ends the teacher.
    wait_for((folder / '%2Fkey_frames.session').exists)


def test_a_session_that_cannot_be_exported_ends_no_teaching(ros, weights, capfd, monkeypatch):
    def fail(server):
        raise RuntimeError('CUDA out of memory')

    monkeypatch.setattr(Server, 'export', fail)
    start(ros, weights, save_period=1.0)
    scene = Scene(ros, weights)
    wait_for(lambda: scene.student._teachers.present)
    said = Said(capfd)
    scene.play_until(lambda: 'RuntimeError: CUDA out of memory' in said())
    count = len(scene.updates)
    scene.play_until(lambda: len(scene.updates) > count)
