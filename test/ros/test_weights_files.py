"""What a student keeps on a disk: it is started again and goes on; others use the files."""

import json
import os
from pathlib import Path
import stat
import threading
import time

from helpers import Said, wait_for
import numpy as np
import pytest
from sensor_msgs.msg import Image
from shadowtutor_ros.algorithms import SessionError
from shadowtutor_ros.algorithms.client import Client, ClientSettings
from shadowtutor_ros.models.safetensors_file import load_file
from shadowtutor_ros.models.student import base
from shadowtutor_ros.models.student.base import Student
from shadowtutor_ros.models.student.inference import InferenceEngine
from shadowtutor_ros.models.student.shadow import Shadow
from shadowtutor_ros.msg import KeyFrame, WeightUpdate
from shadowtutor_ros.nodes.images import to_message
from shadowtutor_ros.nodes.session_files import SessionFiles
from shadowtutor_ros.nodes.student_node import StudentNode
from shadowtutor_ros.nodes.teacher_node import TeacherNode
from shadowtutor_ros.nodes.weights_files import WeightsFiles, WeightsKeeper
from std_msgs.msg import Header
from std_srvs.srv import Trigger
import torch


def folder():
    return Path(os.environ['ROS_HOME']) / 'shadowtutor'


def full(*arguments):
    raise OSError(28, 'No space left on device')


# --- files ---------------------------------------------------------------------------------------

@pytest.fixture
def student():
    torch.manual_seed(2)
    one = Shadow().eval()
    one.about = {'licence': 'CC0', 'recipe': '{"command": "by hand"}'}
    return one


@pytest.fixture
def state(student):
    """Return what a client exports that has other weights than its weights file."""
    weights, meta = Client(InferenceEngine(student), None, ClientSettings()).export()
    weights = {name: tensor + 0.01 for name, tensor in weights.items()}
    return weights, {**meta, 'weights': base.checksum(weights), 'weights_version': 3}


@pytest.fixture
def files(tmp_path, student):
    return WeightsFiles(tmp_path / 'made' / 'for it', '/robot1/student', student)


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


def test_what_is_kept_is_loaded(files, state, student):
    assert files.load() is None
    files.save(state)
    weights, meta = files.load()
    assert equal(weights, state[0]) and meta == state[1]
    client = Client(InferenceEngine(student), None, ClientSettings())
    client.restore(weights, meta)
    assert client.export()[1] == state[1]


def test_each_node_has_files_of_its_own(files, state, student):
    names = ['/student', '/robot2/student', '/robot1_student', '/robot1/student2']
    others = [WeightsFiles(files.folder, name, student) for name in names]
    assert len({one.path for one in [files, *others]}) == 5
    files.save(state)
    files.save_as_new(state)
    assert all(one.load() is None for one in others)
    # Nor is it one of a teacher's on the same machine.
    assert files.path != SessionFiles(files.folder).path('/robot1/student')


def test_its_files_are_weights_files_with_licence_and_recipe(files, state):
    umask = os.umask(0)
    os.umask(umask)
    for path in (files.save_as_new(state), files.save(state) or files.path):
        assert equal(Student.load(path).state_dict(), state[0])
        said = load_file(path)[1]
        assert said['licence'].startswith('CC0; ') and 'by hand' in said['recipe']
        assert {'architecture', 'classes', 'pixel_mean'} <= said.keys()
        assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask


def test_a_recipe_that_somebody_else_wrote_is_kept_as_a_text(files, state, student):
    student.about = {'recipe': 'by hand'}
    said = load_file(files.save_as_new(state))[1]
    assert json.loads(said['recipe'])['start']['recipe'] == 'by hand'
    assert said['licence'] == 'its weights file: not said; what a teacher made of it: not said'


def test_copies_take_nobodys_place(files, state):
    files.save(state)
    paths = {files.path}
    for _ in range(3):
        time.sleep(0.002)
        paths.add(files.save_as_new(state))
    assert len(paths) == 4 == len(list(files.folder.iterdir()))


@pytest.mark.parametrize('spoil', [
    lambda data: data[:len(data) // 2], lambda data: b'', lambda data: b'\x00' * 100,
    lambda data: data.replace(b'"version":"1"', b'"version":"7"'),
    lambda data: data.replace(b'"session"', b'"sessiom"')])
def test_a_file_that_is_torn_or_foreign_is_one_clear_error(files, state, spoil):
    files.save(state)
    before = files.path.read_bytes()
    files.path.write_bytes(spoil(before))
    assert files.path.read_bytes() != before
    with pytest.raises(SessionError) as raised:
        files.load()
    assert '\n' not in str(raised.value)


def test_a_weights_file_is_no_file_to_go_on_with(files, student):
    files.folder.mkdir(parents=True)
    student.save(files.path, version='0.1.0')
    with pytest.raises(SessionError, match='another version'):
        files.load()


def test_what_cannot_be_written_leaves_what_was(files, state, monkeypatch):
    files.save(state)
    monkeypatch.setattr(base, 'save_file', full)
    with pytest.raises(OSError, match='No space left'):
        files.save((state[0], {**state[1], 'weights_version': 9}))
    assert files.load()[1] == state[1]
    assert list(files.folder.iterdir()) == [files.path]


# --- the thread ----------------------------------------------------------------------------------

class Written:
    """Files in memory."""

    def __init__(self):
        self.states, self.errors, self.broken = [], [], False

    def save(self, state):
        if self.broken:
            full()
        self.states.append(state)

    def save_as_new(self, state):
        return Path(f'{state}.new')

    def keeper(self, keep=True, period=3600.0):
        keeper = WeightsKeeper(self, keep, lambda: period, self.errors.append, 'first')
        keeper.thread.start()
        return keeper


def end(keeper):
    keeper.close()
    keeper.thread.join(60)
    assert not keeper.thread.is_alive()


def test_the_first_change_is_kept_at_once_then_the_last_of_a_period():
    written = Written()
    keeper = written.keeper()
    keeper.put('second')
    wait_for(lambda: written.states == ['second'])
    keeper.put('third')
    keeper.put('fourth')
    time.sleep(0.1)
    assert written.states == ['second']
    end(keeper)
    assert written.states == ['second', 'fourth'] and written.errors == [None, None]


def test_what_has_not_changed_is_not_written():
    written = Written()
    end(written.keeper())
    assert written.states == []


def test_it_is_tried_again_once_there_is_room():
    written = Written()
    written.broken = True
    keeper = written.keeper(period=0.05)
    keeper.put('second')
    wait_for(lambda: len(written.errors) > 2)
    assert all(isinstance(error, OSError) for error in written.errors)
    written.broken = False
    wait_for(lambda: written.states == ['second'])
    end(keeper)
    assert written.states == ['second']


def test_asked_for_it_saves_and_keeps_nothing_it_was_not_told_to():
    written, saved = Written(), []
    keeper = written.keeper(keep=False)
    keeper.save_as_new(saved.append)
    wait_for(lambda: saved == [Path('first.new')])
    keeper.put('second')
    keeper.save_as_new(saved.append)
    wait_for(lambda: saved == [Path('first.new'), Path('second.new')])
    end(keeper)
    assert written.states == []


# --- over DDS ------------------------------------------------------------------------------------

class Robot:
    """A student, and a frame for it, again and again."""

    def __init__(self, ros, weights, namespace='', **parameters):
        self.ros = ros
        rules = [f'__ns:={namespace}'] if namespace else []
        self.node = ros.start(StudentNode, rules, **{
            'weights': weights, 'min_stride': 1, 'max_stride': 1, 'stride_rate': 0.0,
            'resume': True, 'threads': 1,
            f'qos_overrides__{namespace}/image__subscription__reliability': 'reliable',
            **parameters})
        self.masks = ros.collect(Image, f'{namespace}/segmentation/mask')
        self.updates = ros.collect(WeightUpdate, f'{namespace}/weight_updates')
        self.key_frames = ros.collect(KeyFrame, f'{namespace}/key_frames')
        self.images = ros.publisher(Image, f'{namespace}/image')
        wait_for(lambda: self.node._mask.subscribers)
        self.frame = np.random.default_rng(1).integers(0, 256, (64, 96, 3), dtype=np.uint8)

    def play(self):
        before = len(self.masks)
        self.images.publish(to_message(self.frame, 'bgr8', Header()))
        wait_for(lambda: len(self.masks) > before)
        mask = self.masks[-1]
        return np.frombuffer(mask.data, np.uint8).reshape(mask.height, mask.width)

    def play_until(self, condition):
        def step():
            self.play()
            return condition()
        wait_for(step)

    def learn(self, updates=3):
        wait_for(lambda: self.node._teachers.present)
        counters = self.node.client.counters
        self.play_until(lambda: counters.updates_applied >= updates
                        and self.node.client.weights_version
                        and not self.node.client.awaiting_update)

    def alone(self):
        """Return the mask once the teacher is gone."""
        wait_for(lambda: not self.node._teachers.present)
        return self.play()

    @property
    def checksum(self):
        return self.node.client.export()[1]['weights']

    def client(self, name):
        client = self.ros.probe.create_client(
            Trigger, f'{self.node.get_fully_qualified_name()}/{name}')
        assert client.wait_for_service(120)
        return client

    def call(self, name):
        future = self.client(name).call_async(Trigger.Request())
        return wait_for(future.done) and future.result()

    def stop(self):
        self.ros.stop(self.node)


def teach(ros, weights, **parameters):
    return ros.start(TeacherNode, **{
        'weights': weights, 'teacher': 'stub_teachers:HalfPerson', 'max_updates': 3,
        'threshold': 0.98, 'threads': 1, **parameters})


def test_a_student_that_is_started_again_goes_on(ros, weights, capfd):
    teacher = teach(ros, weights)
    robot = Robot(ros, weights)
    first = robot.play()
    robot.learn()
    ros.stop(teacher)
    before, checksum = robot.alone(), robot.checksum
    assert (before != first).any(), 'it has learnt something'
    robot.stop()
    assert {path.name for path in folder().iterdir()} == {
        '%2Fstudent.safetensors', '%2Fkey_frames.session'}

    robot = Robot(ros, weights)
    assert robot.checksum == checksum and 'goes on with weights' in capfd.readouterr().err
    assert (robot.play() == before).all()

    teach(ros, weights)  # as it was
    robot.learn(1)
    assert robot.key_frames[0].weights_checksum == checksum
    assert robot.updates[0].base_checksum == checksum and not robot.updates[0].label
    assert not robot.node.client.counters.updates_rejected


def test_a_teacher_that_knows_nothing_keeps_answering(ros, weights):
    teacher = teach(ros, weights, state_folder='')
    robot = Robot(ros, weights)
    robot.learn()
    checksum = robot.checksum
    ros.stop(teacher)
    robot.stop()
    teach(ros, weights, state_folder='')
    robot = Robot(ros, weights)
    robot.learn(4)
    assert robot.key_frames[0].weights_checksum == checksum
    assert robot.updates[0].label
    assert not robot.node.client.counters.updates_rejected
    assert not robot.node.client.counters.key_frames_refused


def test_what_comes_while_the_last_frame_is_inferred_is_kept(ros, weights, monkeypatch):
    def infer_until_the_answer(node, *arguments, infer=StudentNode._infer):
        infer(node, *arguments)
        if node.client.awaiting_update:
            wait_for(lambda: node._updates)

    teach(ros, weights, state_folder='')
    with monkeypatch.context() as patch:
        patch.setattr(StudentNode, '_infer', infer_until_the_answer)
        robot = Robot(ros, weights)
        wait_for(lambda: robot.node._teachers.present)
        robot.play_until(lambda: robot.key_frames)
        wait_for(lambda: robot.node.client.weights_version)
        checksum = robot.checksum
        robot.stop()
    assert Robot(ros, weights).checksum == checksum


def test_without_resume_nothing_is_kept_or_gone_on_with(ros, weights):
    teach(ros, weights, state_folder='')
    robot = Robot(ros, weights)
    initial = robot.checksum
    robot.learn()
    robot.stop()
    kept = (folder() / '%2Fstudent.safetensors').read_bytes()
    robot = Robot(ros, weights, resume=False)
    assert robot.checksum == initial
    robot.learn()
    robot.stop()
    assert (folder() / '%2Fstudent.safetensors').read_bytes() == kept


def test_robots_share_no_file(ros, weights):
    teach(ros, weights, state_folder='')
    robots = [Robot(ros, weights, f'/robot{n}') for n in (1, 2)]
    initial = robots[1].checksum
    robots[0].learn()
    checksum = robots[0].checksum
    for robot in robots:
        robot.stop()
    robots = [Robot(ros, weights, f'/robot{n}') for n in (1, 2)]
    assert [robot.checksum for robot in robots] == [checksum, initial]


def test_a_reset_is_kept_too(ros, weights):
    teacher = teach(ros, weights, state_folder='')
    robot = Robot(ros, weights)
    initial = robot.checksum
    robot.learn()
    ros.stop(teacher)
    robot.alone()
    assert robot.checksum != initial
    assert robot.call('reset').success
    robot.play()
    assert robot.checksum == initial
    robot.stop()
    assert Robot(ros, weights).checksum == initial


@pytest.mark.parametrize('spoil', ['torn', 'of other weights'])
def test_a_file_that_cannot_be_gone_on_with_is_said_once(ros, weights, tmp_path, capfd, spoil):
    other = tmp_path / 'other.safetensors'
    torch.manual_seed(5)
    Shadow().save(other)
    folder().mkdir(parents=True)
    path = folder() / '%2Fstudent.safetensors'
    if spoil == 'torn':
        path.write_bytes(other.read_bytes()[:1000])
    else:
        student = Student.load(other)
        WeightsFiles(folder(), '/student', student).save(
            Client(InferenceEngine(student), None, ClientSettings()).export())
    robot = Robot(ros, weights)
    said = capfd.readouterr().err
    assert said.count('begins with its weights file') == 1 and str(path) in said
    assert robot.checksum == Student.load(weights).weights_checksum()
    teach(ros, weights, state_folder='')
    robot.learn()
    robot.stop()
    assert Robot(ros, weights).checksum == robot.checksum


def test_a_disk_that_is_full_is_said_once_and_masks_go_on(ros, weights, capfd, monkeypatch):
    monkeypatch.setattr(base, 'save_file', full)
    teach(ros, weights, state_folder='')
    robot = Robot(ros, weights, save_period=1.0)
    wait_for(lambda: robot.node._teachers.present)
    said = Said(capfd)
    robot.play_until(lambda: 'No space left on device' in said())
    applied, begin = robot.node.client.counters.updates_applied, time.monotonic()
    robot.play_until(lambda: robot.node.client.counters.updates_applied > applied
                     and time.monotonic() > begin + 2.5)
    answer = robot.call('save_weights')
    assert not answer.success and 'No space left' in answer.message
    monkeypatch.undo()
    robot.stop()
    assert said().count('cannot be kept') == 1


def test_weights_are_saved_on_request(ros, weights, monkeypatch):
    home = folder()
    teacher = teach(ros, weights, state_folder='')
    robot = Robot(ros, weights, '/robot1', resume=False)
    answer = robot.call('save_weights')  # before any frame
    assert answer.success and Student.load(answer.message).weights_checksum() == robot.checksum
    robot.learn()
    ros.stop(teacher)
    mask = robot.alone()
    # While the disk is slow, masks go on.
    written, write = threading.Event(), base.save_file

    def write_slowly(*arguments):
        written.wait(60)
        write(*arguments)
    monkeypatch.setattr(base, 'save_file', write_slowly)
    client = robot.client('save_weights')
    future = client.call_async(Trigger.Request())
    for _ in range(3):
        assert (robot.play() == mask).all()
    assert not future.done()
    written.set()
    answer = wait_for(future.done) and future.result()
    path = Path(answer.message)
    assert answer.success and path.parent == home
    assert path.name.startswith('robot1_student_2') and path.suffix == '.safetensors'
    student = Student.load(path)
    assert student.weights_checksum() == robot.checksum
    assert (InferenceEngine(student)(robot.frame) == mask).all()
    robot.stop()
    # As the parameter weights.
    robot = Robot(ros, str(path), '/robot2', resume=False)
    assert (robot.play() == mask).all()


def test_without_a_folder_it_says_so(ros, weights):
    robot = Robot(ros, weights, resume=False, state_folder='')
    answer = robot.call('save_weights')
    assert not answer.success and 'state_folder' in answer.message
    with pytest.raises(ValueError, match='resume is true'):
        Robot(ros, weights, state_folder='')
