"""Sessions that are kept: a server that is started again goes on as if nothing had happened."""

import copy
from dataclasses import replace
import json

import cv2
import numpy as np
import pytest
from shadowtutor_ros.algorithms import SessionError
from shadowtutor_ros.algorithms.server import ServerSettings
from shadowtutor_ros.algorithms.student_training import StudentTrainer
from shadowtutor_ros.classes import load_classes
import torch

from test_server import make_server, Robot  # noqa: F401 (a fixture)


@pytest.fixture
def settings():
    return ServerSettings(
        threshold=0.99, max_updates=3, learning_rate=0.003, scope='decoder', replay=1,
        encoding='int4', training_seconds=0.0)


def ask(robot, server, frame):
    """Answer a frame whose image is known, as a node does, and apply the answer."""
    key_frame = robot.send(frame)
    data = cv2.imencode('.png', frame)[1].tobytes()
    update = server.on_key_frame(replace(key_frame, image=('png', data)))
    robot.apply(update)
    return update


def started_again(server, make_server, *robots):  # noqa: F811
    """Return a server that knows what another one has kept, through what JSON and a disk hold."""
    tensors, meta = server.export()
    kept = {name: tensor.clone() for name, tensor in tensors.items()}
    other = make_server()
    other.restore(kept, json.loads(json.dumps(meta)))
    for robot in robots:  # as its node does where the graph shows another
        robot.client.forget_teacher()
    return other


@pytest.mark.parametrize('scope', ['decoder', 'full'])
def test_answers_are_those_of_a_server_that_went_on(
        student, make_server, pictures, settings, scope):  # noqa: F811
    settings.scope = scope
    robot, server = Robot(student), make_server()
    for frame in pictures[:4]:
        ask(robot, server, frame)
    other = copy.deepcopy(robot)
    other.client._send = other._key_frames.append
    again = started_again(server, make_server, other)
    for frame in pictures[4:7]:
        went_on, goes_on = ask(robot, server, frame), ask(other, again, frame)
        assert goes_on.tensors == went_on.tensors and goes_on.steps == went_on.steps > 0
        assert goes_on.metric_before == went_on.metric_before
        assert goes_on.metric_after == went_on.metric_after
        assert goes_on.base_checksum == went_on.base_checksum and not goes_on.label
    assert again.session.trainer.memory_bytes == server.session.trainer.memory_bytes


def test_an_answer_that_was_lost_is_healed_after_a_restart_too(
        student, make_server, pictures):  # noqa: F811
    robot, server = Robot(student), make_server()
    for frame in pictures[:3]:
        ask(robot, server, frame)
    server.on_key_frame(robot.send(pictures[3]))  # its answer is lost
    again = started_again(server, make_server, robot)
    update = ask(robot, again, pictures[4])
    # It knows what the robot runs, so nothing is asked of the robot.
    assert not update.label and not np.isnan(update.metric_before)
    assert robot.checksum == again.session.student.weights_checksum()


def test_classes_are_kept(student, make_server, pictures):  # noqa: F811
    robot, server = Robot(student), make_server()
    ask(robot, server, pictures[0])
    table = load_classes(['person', 'blob: dog, horse'])
    # The teacher of these tests knows persons alone; the weights know the rest.
    robot.client.want(table)
    for frame in pictures[1:4]:
        ask(robot, server, frame)
    assert robot.client.classes.digest == table.digest
    again = started_again(server, make_server, robot)
    assert again.session.classes.digest == table.digest
    update = ask(robot, again, pictures[4])
    assert not update.label
    assert robot.checksum == again.session.student.weights_checksum()


def test_a_robot_that_was_started_again_begins_anew(
        student, make_server, pictures):  # noqa: F811
    robot, server = Robot(student), make_server()
    for frame in pictures[:3]:
        ask(robot, server, frame)
    again = started_again(server, make_server, robot)
    fresh = Robot(student, student_id=2)
    update = ask(fresh, again, pictures[3])
    assert again.session.id == fresh.client.session_id
    assert update.base_checksum == student.weights_checksum()


def test_another_scope_begins_training_anew(
        student, make_server, pictures, settings):  # noqa: F811
    robot, server = Robot(student), make_server()
    for frame in pictures[:3]:
        ask(robot, server, frame)
    settings.scope = 'partial'
    again = started_again(server, make_server, robot)
    assert again.session.trainer.memory_bytes == 0
    assert not ask(robot, again, pictures[3]).label


def test_key_frames_whose_image_is_not_known_are_not_kept(
        student, make_server, pictures):  # noqa: F811
    robot, server = Robot(student), make_server()
    robot.apply(server.on_key_frame(robot.send(pictures[0])))
    tensors, meta = server.export()
    assert meta['session']['trainer']['formats'] == []
    assert not [name for name in tensors if 'memory' in name]
    assert started_again(server, make_server).session.trainer.memory_bytes == 0


def test_nothing_is_kept_before_the_first_key_frame(make_server):  # noqa: F811
    assert make_server().export() is None


def spoil(kept, change):
    tensors, meta = kept
    tensors, meta = dict(tensors), json.loads(json.dumps(meta))
    change(tensors, meta)
    return tensors, meta


@pytest.mark.parametrize('change, words', [
    (lambda tensors, meta: meta.update(model_id='another'), 'another model'),
    (lambda tensors, meta: meta.update(weights_file=5), 'another weights file'),
    (lambda tensors, meta: meta.pop('session'), 'not what a teacher saves'),
    (lambda tensors, meta: meta['session'].pop('tables'), 'not what a teacher saves'),
    (lambda tensors, meta: meta['session'].update(classes=5), 'not what a teacher saves'),
    (lambda tensors, meta: meta['session'].update(last_number='x'), 'not what a teacher saves'),
    (lambda tensors, meta: meta['session']['trainer'].update(random={}), 'not what'),
    (lambda tensors, meta: meta['session']['trainer'].update(formats=['png'] * 9), 'not what'),
    (lambda tensors, meta: tensors.pop(next(n for n in tensors if n.startswith('student.'))),
     'not what'),
    (lambda tensors, meta: tensors.update(
        {next(n for n in tensors if n.endswith('exp_avg')): torch.zeros(3)}), 'not what'),
    (lambda tensors, meta: tensors.update(
        {'trainer.memory.0.image': torch.zeros(9, dtype=torch.uint8)}), 'not what')])
def test_what_does_not_fit_changes_nothing(
        student, make_server, pictures, change, words):  # noqa: F811
    robot, server = Robot(student), make_server()
    for frame in pictures[:3]:
        ask(robot, server, frame)
    other = make_server()
    with pytest.raises(SessionError, match=words) as raised:
        other.restore(*spoil(server.export(), change))
    assert '\n' not in str(raised.value)
    assert other.session is None


def test_a_trainer_that_was_not_used_is_kept_too(student, settings):
    tensors, meta = StudentTrainer(copy.deepcopy(student), settings).export()
    trainer = StudentTrainer(copy.deepcopy(student), settings)
    trainer.restore(tensors, json.loads(json.dumps(meta)))
    assert not tensors and trainer.memory_bytes == 0
