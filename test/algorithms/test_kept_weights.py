"""What a robot keeps: started again it goes on, and so does its teacher, or they find together."""

import copy
import json
import math

import numpy as np
import pytest
from shadowtutor_ros.algorithms import SessionError
from shadowtutor_ros.classes import load_classes
from shadowtutor_ros.wire.weight_update import Status
import torch

from test_kept_sessions import settings, started_again  # noqa: F401 (a fixture)
from test_server import make_server, Robot  # noqa: F401 (a fixture)


def kept(robot):
    """Return what a robot keeps, through what JSON and a disk hold."""
    tensors, meta = robot.client.export()
    return ({name: tensor.clone() for name, tensor in tensors.items()},
            json.loads(json.dumps(meta)))


def robot_again(student, state, student_id=2):
    """Return a robot that was started again: another student by its number, and a new session."""
    robot = Robot(student, student_id)
    robot.client.restore(*state)
    return robot


def taught(student, server, pictures):
    robot = Robot(student)
    robot.play(server, pictures)
    return robot


def masks(robot, pictures):
    """Return masks without a teacher."""
    robot.client.connected = False
    return [robot.client.on_frame(picture, 1e6 + n) for n, picture in enumerate(pictures)]


def same(one, other):
    return all(np.array_equal(*pair) for pair in zip(one, other, strict=True))


def test_masks_are_those_of_before_to_the_bit(
        student, make_server, pictures, settings):  # noqa: F811
    robot = taught(student, make_server(), pictures[:4])
    again = robot_again(student, kept(robot))
    before, after = masks(robot, pictures), masks(again, pictures)
    assert same(before, after)
    assert not same(before, masks(Robot(student), pictures)), 'it has learnt something'
    assert again.checksum == robot.checksum
    assert again.client.weights_version == robot.client.weights_version > 0
    assert again.client.session_id != robot.client.session_id
    assert again.client.counters.frames == len(pictures)


def test_export_copies_nothing_and_later_updates_leave_it_alone(
        student, make_server, pictures):  # noqa: F811
    server = make_server()
    robot = taught(student, server, pictures[:2])
    tensors, meta = robot.client.export()
    before = {name: tensor.clone() for name, tensor in tensors.items()}
    assert any(tensor is robot.client.export()[0][name] for name, tensor in tensors.items())
    robot.play(server, pictures[2:5])
    assert robot.checksum != meta['weights']
    assert all(torch.equal(tensors[name], before[name]) for name in tensors)


def test_a_teacher_that_went_on_knows_what_was_kept(
        student, make_server, pictures, settings):  # noqa: F811
    server = make_server()
    robot = taught(student, server, pictures[:4])
    state, other = kept(robot), copy.deepcopy(server)
    again = robot_again(student, state)
    goes_on = again.ask(server, pictures[4])
    again.apply(goes_on)
    went_on = robot.ask(other, pictures[4])
    assert goes_on.tensors == went_on.tensors and goes_on.steps == went_on.steps > 0
    assert goes_on.metric_before == went_on.metric_before
    assert not goes_on.label and goes_on.base_checksum == state[1]['weights']
    assert server.session.id == again.client.session_id
    assert again.checksum == server.session.student.weights_checksum()


@pytest.mark.parametrize('scope', ['decoder', 'full'])
def test_both_are_started_again(
        student, make_server, pictures, settings, scope):  # noqa: F811
    settings.scope = scope
    server = make_server()
    robot = taught(student, server, pictures[:4])
    again, server = robot_again(student, kept(robot)), started_again(server, make_server)
    update = again.ask(server, pictures[4])
    assert not update.label and not math.isnan(update.metric_before)
    again.apply(update)
    assert again.checksum == server.session.student.weights_checksum()


def test_what_was_kept_long_before_the_end_finds_a_teacher_that_is_ahead(
        student, make_server, pictures, settings):  # noqa: F811
    settings.share, settings.places_megabytes, settings.variants = 1.0, 0.0, 0
    server = make_server()
    robot = taught(student, server, pictures[:1])
    state = kept(robot)
    robot.play(server, pictures[1:8])  # more than a session remembers
    ahead = server.session.student.weights()
    again = robot_again(student, state)
    update = again.ask(server, pictures[8])
    # The robot judges what leads from the weights file to what both learnt until the end.
    assert update.label and update.base_checksum == student.weights_checksum()
    again.apply(update)
    assert not again.client.counters.updates_rejected
    assert again.client.counters.updates_declined == 0
    assert again.checksum == update.weights_checksum
    moved = {name: float((tensor - ahead[name]).abs().max())
             for name, tensor in again.engine.student.state_dict().items()}
    assert max(moved.values()) < 0.1
    assert not again.ask(server, pictures[9]).label, 'they are in step'


def test_a_teacher_that_knows_nothing_answers_with_the_label(
        student, make_server, pictures):  # noqa: F811
    robot = taught(student, make_server(), pictures[:6])
    again = robot_again(student, kept(robot))
    update = again.ask(make_server(), pictures[6])
    assert update.status == Status.DONE and update.label
    assert update.base_checksum == student.weights_checksum()
    checksum = again.checksum
    again.apply(update)
    own = again.client.last_update.metric_before
    if update.metric_after > own:
        assert again.checksum == update.weights_checksum
    else:
        assert again.checksum == checksum and again.client.counters.updates_declined == 1


def test_a_robot_that_keeps_nothing_begins_anew(student, make_server, pictures):  # noqa: F811
    server = make_server()
    taught(student, server, pictures[:4])
    fresh = Robot(student, 2)
    update = fresh.ask(server, pictures[4])
    assert update.base_checksum == student.weights_checksum() and not update.label
    alone = Robot(student, 3).ask(make_server(), pictures[4])
    assert update.tensors == alone.tensors


def test_the_weights_of_the_weights_file_are_a_beginning_too(
        student, make_server, pictures):  # noqa: F811
    server = make_server()
    taught(student, server, pictures[:4])
    again = robot_again(student, kept(Robot(student)))
    update = again.ask(server, pictures[4])
    assert update.tensors == Robot(student, 3).ask(make_server(), pictures[4]).tensors


def test_two_that_are_both_there_have_sessions_of_their_own(
        student, make_server, pictures):  # noqa: F811
    server = make_server()
    robot = taught(student, server, pictures[:3])
    again = robot_again(student, kept(robot))
    again.play(server, pictures[3:5])
    update = robot.ask(server, pictures[5])  # it has the older right to the place
    assert not update.label
    robot.apply(update)
    assert robot.checksum == server.session.student.weights_checksum()


def test_sessions_that_never_begin_keep_no_others_alive(
        student, make_server, pictures):  # noqa: F811
    server = make_server()
    robot = taught(student, server, pictures[:3])
    first = server.session
    for number in range(2, 6):
        stranger = robot_again(student, kept(robot), number)
        key_frame = stranger.send(pictures[3])
        server._admit(key_frame, True, 0.0)
    assert server.session._former is first and first._former is None


def test_classes_are_kept_with_the_weights(student, make_server, pictures):  # noqa: F811
    server, table = make_server(), load_classes(['person', 'blob: dog, horse'])
    robot = taught(student, server, pictures[:1])
    robot.client.want(table)
    robot.play(server, pictures[1:4])
    again = robot_again(student, kept(robot))
    assert again.client.classes.digest == again.client.wanted.digest == table.digest
    assert again.client.names == robot.client.names
    assert same(masks(again, pictures), masks(robot, pictures))
    again.client.connected = True
    update = again.ask(server, pictures[4])
    assert not update.label and update.base_checksum == robot.checksum
    again.apply(update)
    assert again.checksum == server.session.student.weights_checksum()


def test_other_classes_than_those_that_were_kept(student, make_server, pictures):  # noqa: F811
    server, table = make_server(), load_classes(['person', 'dog'])
    again = robot_again(student, kept(taught(student, server, pictures[:4])))
    again.client.want(table)
    update = again.ask(server, pictures[4])
    assert not update.label, 'it knows the weights with rows for these classes'
    again.apply(update)
    assert again.client.classes.digest == table.digest
    assert again.checksum == server.session.student.weights_checksum()


def test_a_class_that_nobody_has_trained_is_not_offered_afterwards(student, pictures):
    robot = Robot(student)
    robot.client.connected = False
    robot.client.want(load_classes(['person', 'unheard of']))
    robot.client.on_frame(pictures[0], 0.0)
    again = robot_again(student, kept(robot))
    assert again.client.names == robot.client.names
    assert again.client.names[1] == ('background', 'person')


def spoil(state, change):
    tensors, meta = state
    tensors, meta = dict(tensors), dict(meta)
    change(tensors, meta)
    return tensors, meta


@pytest.mark.parametrize('change, words', [
    (lambda tensors, meta: meta.update(model_id='another'), 'another model'),
    (lambda tensors, meta: meta.update(weights_file=5), 'another weights file'),
    (lambda tensors, meta: meta.update(weights=5), 'not those that were saved'),
    (lambda tensors, meta: meta.pop('classes'), 'not what a student saves'),
    (lambda tensors, meta: meta.update(classes=[]), 'not what a student saves'),
    (lambda tensors, meta: meta.update(learnt=3), 'not what a student saves'),
    (lambda tensors, meta: meta.update(weights_version=-1), 'version'),
    (lambda tensors, meta: meta.update(weights_version='3'), 'version'),
    (lambda tensors, meta: meta.update(weights_version=2 ** 32), 'version'),
    (lambda tensors, meta: tensors.pop(next(iter(tensors))), 'missing'),
    (lambda tensors, meta: tensors.update(more=torch.zeros(3)), 'unknown'),
    (lambda tensors, meta: tensors.update({next(iter(tensors)): torch.zeros(3)}), 'shape'),
    (lambda tensors, meta: next(iter(tensors.values())).fill_(math.nan), 'not finite'),
    (lambda tensors, meta: next(iter(tensors.values())).add_(1), 'not those that were saved')])
def test_what_does_not_fit_changes_nothing(
        student, make_server, pictures, change, words):  # noqa: F811
    state = kept(taught(student, make_server(), pictures[:2]))
    robot = Robot(student)
    before = robot.checksum, robot.client.export()[1], robot.client.offered
    with pytest.raises(SessionError, match=words) as raised:
        robot.client.restore(*spoil(state, change))
    assert '\n' not in str(raised.value)
    assert (robot.checksum, robot.client.export()[1], robot.client.offered) == before
