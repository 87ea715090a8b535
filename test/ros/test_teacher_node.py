"""The teacher node over DDS, and together with the student node."""

import threading
import time

from helpers import Said, wait_for
import numpy as np
import pytest
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from stub_teachers import Held, HeldBatches

from shadowtutor_ros.algorithms.server import refusal, Server
from shadowtutor_ros.models.student.base import Student
from shadowtutor_ros.models.teachers import TeacherError
from shadowtutor_ros.msg import KeyFrame, WeightUpdate
from shadowtutor_ros.nodes.images import to_message
from shadowtutor_ros.nodes.messages import key_frame_to_message, update_from_message
from shadowtutor_ros.nodes.parameters import ParameterError
from shadowtutor_ros.nodes.student_node import StudentNode
from shadowtutor_ros.nodes.teacher_node import Job, Robot, STUDENTS, TeacherNode
from shadowtutor_ros.wire import key_frame as wire
from shadowtutor_ros.wire.key_frame import KeyFrameError
from shadowtutor_ros.wire.weight_update import Status, unpack
from shadowtutor_ros.workers.base import Answer


def key_frame(student, frame, number=1, session=5, **fields):
    checksum = student.weights_checksum()
    return key_frame_to_message(
        wire.KeyFrame(session, number, 10 * number, student.model_id, checksum, 0, checksum,
                      frame, **fields), Header(frame_id='eye'), 'png', 90, 0)


def start(ros, weights, **parameters):
    return ros.start(TeacherNode, **{
        'weights': weights, 'teacher': 'stub_teachers:HalfPerson', 'max_updates': 3,
        **parameters})


def server_of(node, robot=0):
    return node._workers.desks[node._robots[robot].teacher_id].server


def test_answers_a_key_frame(ros, weights, frame):
    start(ros, weights)
    updates = ros.collect(WeightUpdate, 'weight_updates')
    student = Student.load(weights)
    ros.publisher(KeyFrame, 'key_frames').publish(key_frame(student, frame))
    message = wait_for(lambda: updates)[0]
    assert (message.session_id, message.key_frame_number) == (5, 1)
    assert message.header.frame_id == 'eye'
    assert message.steps == message.max_updates == 3
    assert message.total_seconds >= message.teacher_seconds + message.training_seconds
    update = update_from_message(message)
    assert update.status == Status.DONE and update.teacher == '/teacher'
    tensors = unpack(update.tensors, student.tensors())
    assert student.weights_checksum(tensors) == update.weights_checksum


def test_garbage_loses_nothing(ros, weights, frame):
    start(ros, weights)
    updates = ros.collect(WeightUpdate, 'weight_updates')
    publisher = ros.publisher(KeyFrame, 'key_frames')
    student = Student.load(weights)
    for number, (reason, spoil) in enumerate((
            ('too_large', lambda m: setattr(m.image, 'format', 'raw; 99999x99999')),
            ('unreadable', lambda m: setattr(m.image, 'data', m.image.data[:50])),
            ('model', lambda m: setattr(m, 'model_id', 'nonsense')),
            ('weights', lambda m: setattr(m, 'initial_checksum', 0))), 1):
        message = key_frame(student, frame, number)
        spoil(message)
        publisher.publish(message)
        update = wait_for(lambda: len(updates) == number and updates[-1])
        assert (update.status, update.refusal) == (Status.REFUSED, reason) and update.text
        assert (update.session_id, update.key_frame_number) == (5, number)
        assert not update.blob
    publisher.publish(key_frame(student, frame, 9))
    wait_for(lambda: len(updates) == 5)
    assert updates[-1].status == Status.DONE and updates[-1].key_frame_number == 9


def test_a_key_frame_that_comes_twice_is_answered_once(ros, weights, frame):
    start(ros, weights)
    updates = ros.collect(WeightUpdate, 'weight_updates')
    publisher, student = ros.publisher(KeyFrame, 'key_frames'), Student.load(weights)
    for number in (1, 1, 2, 1, 2, 3):
        publisher.publish(key_frame(student, frame, number))
        wait_for(lambda: any(update.key_frame_number == number for update in updates))
    assert [update.key_frame_number for update in updates] == [1, 2, 3]


def test_a_key_frame_for_another_teacher_is_left_to_it(ros, weights, frame):
    node = start(ros, weights)
    updates = ros.collect(WeightUpdate, 'weight_updates')
    publisher, student = ros.publisher(KeyFrame, 'key_frames'), Student.load(weights)
    other = ros.publisher(WeightUpdate, 'weight_updates')
    wait_for(lambda: node.count_publishers('weight_updates') == 2)
    publisher.publish(key_frame(student, frame, 1, teacher_id=99))
    own = node._robots[0].teacher_id
    publisher.publish(key_frame(student, frame, 2, teacher_id=own))
    assert wait_for(lambda: updates)[0].key_frame_number == 2
    # Where it is alone it answers those of one that was there before, too.
    ros.probe.destroy_publisher(other)
    wait_for(lambda: node.count_publishers('weight_updates') == 1)
    publisher.publish(key_frame(student, frame, 3, teacher_id=99))
    wait_for(lambda: updates[-1].key_frame_number == 3)


def test_of_each_student_the_newest_key_frame_waits():
    robot = Robot('', None, '')
    for number in range(1, 4):
        for student_id in (5, 6):
            robot.put(KeyFrame(student_id=student_id, key_frame_number=number), float(number))
    assert [(message.student_id, message.key_frame_number, arrival)
            for message, arrival in robot.waiting.values()] == [(5, 3, 3.0), (6, 3, 3.0)]
    for student_id in range(10, 20):
        robot.put(KeyFrame(student_id=student_id), 4.0)
    assert list(robot.waiting) == list(range(20 - STUDENTS, 20))


def test_the_server_hears_how_long_a_key_frame_waited_and_who_else_there_is(
        ros, weights, frame, monkeypatch):
    node, heard = start(ros, weights), []
    robot = node._robots[0]
    monkeypatch.setattr(
        server_of(node), 'admit', lambda asked, waited, alone: heard.append(
            (asked.number, waited, alone)))
    message = key_frame(Student.load(weights), frame)
    ros.publisher(KeyFrame, 'key_frames')
    wait_for(lambda: node.count_publishers('key_frames') == 1)
    node._answer([Job(robot, message, time.perf_counter() - 50.0)])
    ros.publisher(KeyFrame, 'key_frames')
    wait_for(lambda: node.count_publishers('key_frames') == 2)
    node._answer([Job(robot, message, time.perf_counter() - 50.0)])
    assert [(number, round(waited, -1), alone) for number, waited, alone in heard] == [
        (1, 50.0, True), (1, 50.0, False)]


def test_a_teacher_that_fails_on_a_frame_goes_on(ros, weights, frame, capfd):
    start(ros, weights, teacher='stub_teachers:BrokenOnce')
    updates, publisher = ros.collect(WeightUpdate, 'weight_updates'), ros.publisher(
        KeyFrame, 'key_frames')
    student, said = Student.load(weights), Said(capfd)
    publisher.publish(key_frame(student, frame, 1))
    wait_for(lambda: 'out of memory' in said())
    assert 'Traceback' not in said()
    assert wait_for(lambda: updates)[0].refusal == 'unlabelled'
    publisher.publish(key_frame(student, frame, 2))
    wait_for(lambda: len(updates) == 2)
    assert updates[-1].key_frame_number == 2 and updates[-1].status == Status.DONE


def test_a_teacher_that_cannot_be_warmed_up_answers(ros, weights, frame, capfd, monkeypatch):
    def fail(*arguments):
        raise RuntimeError('out of memory')
    monkeypatch.setattr(Server, 'warm_up', fail)
    start(ros, weights)
    updates = ros.collect(WeightUpdate, 'weight_updates')
    ros.publisher(KeyFrame, 'key_frames').publish(key_frame(Student.load(weights), frame))
    wait_for(lambda: updates)
    assert 'could not be warmed up: RuntimeError: out of memory' in capfd.readouterr().err


def test_the_newest_key_frame_is_answered_and_robots_in_turn(ros, weights, frame, monkeypatch):
    monkeypatch.setattr(Server, 'warm_up', lambda *size: None)
    node = start(ros, weights, teacher='stub_teachers:Held', robots=['/one', '/two'],
                 max_updates=1)
    student, answers = Student.load(weights), []
    publishers = {}
    for name in ('one', 'two'):
        ros.probe.create_subscription(
            WeightUpdate, f'/{name}/weight_updates', lambda update, name=name: answers.append(
                (name, update.key_frame_number)), 10)
        publishers[name] = ros.publisher(KeyFrame, f'/{name}/key_frames')

    def waiting():
        return {robot.name: message.key_frame_number for robot in node._robots
                for message, _ in robot.waiting.values()}

    publishers['one'].publish(key_frame(student, frame, 1))
    assert Held.begun.wait(30)
    # While the first is labelled, three more come of the same robot, and one of the other.
    for name, number in (('one', 2), ('one', 3), ('two', 1), ('one', 4)):
        publishers[name].publish(key_frame(student, frame, number))
        wait_for(lambda: waiting().get(f'/{name}') == number)
    Held.may_end.set()
    wait_for(lambda: len(answers) == 3)
    assert answers == [('one', 1), ('two', 1), ('one', 4)] and not waiting()


@pytest.mark.parametrize('most, asked', [(4, [1, 3]), (2, [1, 2, 1]), (1, [1, 1, 1, 1])])
def test_key_frames_that_wait_together_are_labelled_together(
        ros, weights, frame, monkeypatch, most, asked):
    monkeypatch.setattr(Server, 'warm_up', lambda *size: None)
    names = ['/a', '/b', '/c', '/d']
    monkeypatch.setattr(HeldBatches, 'asked', [])
    monkeypatch.setattr(HeldBatches, 'begun', threading.Event())
    monkeypatch.setattr(HeldBatches, 'may_end', threading.Event())
    node = start(ros, weights, teacher='stub_teachers:HeldBatches', robots=names,
                 training_seconds=0.0, teacher_batch=most)
    student = Student.load(weights)
    updates = {name: ros.collect(WeightUpdate, f'{name}/weight_updates') for name in names}
    publishers = [ros.publisher(KeyFrame, f'{name}/key_frames') for name in names]
    for count, publisher in enumerate(publishers):
        publisher.publish(key_frame(student, frame))
        # The first is labelled as soon as it is there, and the others come meanwhile.
        assert HeldBatches.begun.wait(30)
        wait_for(lambda: sum(len(robot.waiting) for robot in node._robots) == count)
    HeldBatches.may_end.set()
    wait_for(lambda: all(updates.values()))
    assert HeldBatches.asked == asked
    assert {message.status for each in updates.values() for message in each} == {Status.DONE}
    # All robots sent the same frame with the same weights: together or not, the answer is one.
    assert len({each[0].weights_checksum for each in updates.values()}) == 1
    teaching = [robot.record.teacher_seconds for robot in node._robots]
    assert len(set(teaching)) == len(asked), 'the time of each pass is shared out equally'


def test_what_the_teacher_did_not_serve_it_in_a_key_frame_has_waited(ros, weights, frame):
    node = start(ros, weights)
    (robot,) = node._robots
    message = key_frame(Student.load(weights), frame)
    update = refusal(1, 'teacher', 1, 1, 'model', KeyFrameError('none', 'unlabelled'))
    # It came ten seconds ago, of which three and a half went to it.
    node._on_answer(Job(robot, message, time.perf_counter() - 10), 0.5, Answer(update, 3.0))
    record = robot.record
    assert record.total_seconds >= 10
    assert record.total_seconds - record.waiting_seconds == pytest.approx(3.5)


def test_robots_have_sessions_of_their_own(ros, weights, frame):
    start(ros, weights, robots=['/one', '/two'])
    student = Student.load(weights)
    answers = {name: ros.collect(WeightUpdate, f'/{name}/weight_updates')
               for name in ('one', 'two')}
    for name, session in (('one', 1), ('two', 2)):
        ros.publisher(KeyFrame, f'/{name}/key_frames').publish(
            key_frame(student, frame, session=session))
    for name, session in (('one', 1), ('two', 2)):
        assert wait_for(lambda: answers[name])[0].session_id == session


def test_parameters_act_on_the_next_key_frame(ros, weights, frame):
    node = start(ros, weights)
    updates = ros.collect(WeightUpdate, 'weight_updates')
    publisher = ros.publisher(KeyFrame, 'key_frames')
    assert node.set_parameters_atomically([
        Parameter('max_updates', value=1), Parameter('threshold', value=0.9),
        Parameter('encoding', value='fp16'),
        Parameter('always_offered', value=['dog'])]).successful
    assert node.settings.always_offered == ('dog',)
    publisher.publish(key_frame(Student.load(weights), frame))
    message = wait_for(lambda: updates)[0]
    assert message.steps == 1 and message.threshold == 0.9
    assert message.encoding == 'fp16' or message.status == Status.NOTHING_TO_GAIN
    assert not node.set_parameters_atomically([Parameter('threshold', value=1.5)]).successful


@pytest.mark.parametrize('parameters, error', [
    ({'teacher': 'resnet9000'}, TeacherError), ({'robots': ['/a', '/a']}, ParameterError),
    ({'robots': []}, ParameterError), ({'robots': ['a', '/a']}, ParameterError),
    ({'device': 'abacus'}, ValueError)])
def test_what_is_wrong_is_one_clear_error(ros, weights, parameters, error):
    with pytest.raises(error) as raised:
        start(ros, weights, **parameters)
    assert str(list(parameters.values())[0]) in str(raised.value)
    assert '\n' not in str(raised.value)


def test_student_and_teacher_hold_the_same_weights(ros, weights):
    student = ros.start(StudentNode, weights=weights, min_stride=1, max_stride=1, **{
        'stride_rate': 0.0,
        'qos_overrides__/image__subscription__reliability': 'reliable',
        'key_frame__format': 'raw'})
    teacher = start(ros, weights, encoding='fp16')
    masks, images = [], ros.publisher(Image, 'image')
    ros.probe.create_subscription(Image, 'segmentation/mask', masks.append, 10)
    wait_for(lambda: student._teachers.present)
    random = np.random.default_rng(1)
    frame = random.integers(0, 256, (64, 96, 3), dtype=np.uint8)

    def play_until(condition):
        def step():
            before = len(masks)
            images.publish(to_message(frame, 'bgr8', Header()))
            wait_for(lambda: len(masks) > before)
            return condition()
        wait_for(step, 40.0)

    play_until(lambda: student.client.counters.updates_applied >= 4)
    play_until(lambda: not student.client.awaiting_update)
    server = server_of(teacher).session
    assert student.client.weights_version > 0 and not student.client.counters.updates_rejected
    assert (student.client.engine.student.weights_checksum()
            == server.student.weights_checksum())

    # A teacher that starts anew knows nothing of the robot. They come together.
    ros.stop(teacher)
    applied = student.client.counters.updates_applied
    teacher = start(ros, weights)
    play_until(lambda: student.client.counters.updates_applied >= applied + 2)
    play_until(lambda: not student.client.awaiting_update)
    assert (student.client.engine.student.weights_checksum()
            == server_of(teacher).session.student.weights_checksum())
