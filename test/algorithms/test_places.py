"""Memory of places: what a robot's student was where the robot has been before."""

import copy
from dataclasses import replace
import json

import cv2
import numpy as np
import pytest
from shadowtutor_ros.algorithms import SessionError
from shadowtutor_ros.algorithms.places import Places, RADIUS, signature
from shadowtutor_ros.algorithms.server import ServerSettings
from shadowtutor_ros.algorithms.student_training import KeptKeyFrame
from shadowtutor_ros.classes import load_classes
from shadowtutor_ros.models.student.base import checksum
import torch

from test_server import make_server, Robot  # noqa: F401 (a fixture)


@pytest.fixture
def settings():
    return ServerSettings(
        threshold=0.99, max_updates=6, learning_rate=0.003, scope='decoder', replay=1,
        encoding='int4', training_seconds=0.0, places_megabytes=32.0)


@pytest.fixture
def scenes(pictures):
    """Return five frames each of two places that look different; the camera pans a little."""
    first, second = pictures[0], 255 - pictures[1] // 3
    return [[np.roll(picture, 8 * step, axis=1) for step in range(5)]
            for picture in (first, second)]


def ask(robot, server, frame):
    """Answer a frame whose image is known, as a node does, and apply the answer."""
    key_frame = robot.send(frame)
    data = cv2.imencode('.png', frame)[1].tobytes()
    update = server.on_key_frame(replace(key_frame, image=('png', data)))
    robot.apply(update)
    assert robot.checksum == update.weights_checksum
    return update


def patrol(robot, server, scenes):
    """Teach a robot at both places, so that it has left the first."""
    for frame in [*scenes[0][:3], *scenes[1][:3]]:
        ask(robot, server, frame)


def left(server):
    """Return the places that were left."""
    return [place for place in server.session.places._places if place.weights]


def unit(angle):
    return np.array([np.cos(angle), np.sin(angle)], np.float32)


def kept(size):
    return [KeptKeyFrame(('png', b'x' * size), b'', np.zeros((0, 4), np.float32))]


# --- which place it is ---------------------------------------------------------------------------

def test_signatures_tell_places_apart(student, scenes):
    one, other = ([signature(student, frame) for frame in frames] for frames in scenes)
    assert one[0].dtype == np.float32 and np.linalg.norm(one[0]) == pytest.approx(1)
    darker = signature(student, cv2.convertScaleAbs(scenes[0][0], alpha=0.9))
    assert np.linalg.norm(one[0] - darker) < RADIUS
    assert min(np.linalg.norm(a - b) for a in one for b in other) > RADIUS


def test_what_is_near_is_the_same_place():
    places = Places()
    first = places.enter(unit(0))
    assert places.enter(unit(0.9 * RADIUS)) is first and len(places) == 1
    # It has gone along by half.
    assert not places.has_left(unit(1.4 * RADIUS)) and places.has_left(unit(1.6 * RADIUS))
    second = places.enter(unit(1.6 * RADIUS))
    assert second is places.here is not first and len(places) == 2
    # Nearer to the first, but not out of the second's reach.
    assert places.enter(unit(0.9 * RADIUS)) is second
    assert places.enter(unit(0)) is first is places.here


# --- coming back ---------------------------------------------------------------------------------

def test_goes_on_from_what_was_left(make_server, student, scenes, settings):  # noqa: F811
    robot, server = Robot(student), make_server()
    patrol(robot, server, scenes)
    place, = left(server)
    before = server.session.trainer.measure(
        scenes[0][3], server._teacher(scenes[0][3]), server.session.student.weights())
    settings.max_updates = 0  # nothing is trained: what is sent was there
    update = ask(robot, server, scenes[0][3])
    assert update.steps == 0 and update.metric_after > update.metric_before
    assert update.metric_before == pytest.approx(before)
    weights = server.session.student.weights()
    for name, tensor in place.weights.items():  # as the coding has it
        assert torch.allclose(weights[name], tensor, atol=0.02), name
    assert update.weights_checksum == server.session.student.weights_checksum()


def test_what_was_left_is_not_taken_where_it_does_no_better(
        make_server, student, scenes):  # noqa: F811
    robot, server = Robot(student), make_server()
    patrol(robot, server, scenes)
    spoilt, twin = copy.deepcopy((robot, server))
    for one in (robot, spoilt):
        one.client._send = one._key_frames.append
    place, = left(twin)
    place.weights = {name: 0 * tensor for name, tensor in place.weights.items()}
    update = ask(spoilt, twin, scenes[0][3])
    own = ask(robot, server, scenes[0][3])
    assert update.metric_after > update.metric_before == own.metric_before
    assert any(tensor.abs().max() > 0.1 for name, tensor in twin.session.student.weights().items()
               if name in place.weights)


def test_the_past_of_a_place_is_replayed(make_server, student, scenes):  # noqa: F811
    robot, server = Robot(student), make_server()
    patrol(robot, server, scenes)
    images = [one.image for one in left(server)[0].kept]
    ask(robot, server, scenes[0][3])
    kept = server.session.trainer.kept()
    assert [one.image for one in kept[:-1]] == images and len(images) == 3
    assert cv2.imdecode(np.frombuffer(kept[-1].image[1], np.uint8), 1).tolist() == (
        scenes[0][3].tolist())
    # Of the other place only its own.
    assert [len(place.kept) for place in left(server)] == [3, 3]


def test_a_robot_that_stays_is_taught_as_without(
        make_server, student, scenes, settings):  # noqa: F811
    frames = [*scenes[0], *scenes[0]]
    updates = {}
    for settings.places_megabytes in (0.0, 32.0):
        robot, server = Robot(student), make_server()
        updates[settings.places_megabytes] = [
            (update.tensors, update.steps, update.metric_after, update.classes)
            for update in (ask(robot, server, frame) for frame in frames)]
        assert len(server.session.places) == bool(settings.places_megabytes)
    assert updates[0.0] == updates[32.0]


def test_a_robot_that_was_lost_is_found_at_a_place_too(
        make_server, student, scenes):  # noqa: F811
    robot, server = Robot(student), make_server()
    patrol(robot, server, scenes)
    server.on_key_frame(robot.send(scenes[1][3]))  # its answer is lost
    update = ask(robot, server, scenes[0][3])
    assert update.metric_after > update.metric_before and not update.label


# --- bounds --------------------------------------------------------------------------------------

def test_the_places_seen_longest_ago_are_forgotten():
    places = Places()
    for angle in (0, 1, 2):
        places.enter(unit(angle))
        places.leave({'a': torch.ones(100)}, {'a': torch.zeros(100)}, kept(300))
    assert places.nbytes == 3 * (8 + 400 + 300)
    places.enter(unit(0))  # seen again, so that the second is the oldest
    places.shrink(1e-6 * (places.nbytes - 1))
    assert len(places) == 2 and places.enter(unit(0)).weights
    assert not places.enter(unit(1)).weights
    places.shrink(0)
    assert len(places) == 0 and places.here is None


def test_a_session_is_bounded(make_server, student, scenes, settings):  # noqa: F811
    robot, server = Robot(student), make_server()
    patrol(robot, server, scenes)
    assert server.session.places.nbytes > 800_000
    settings.places_megabytes = 0.9
    for frame in (scenes[0][3], scenes[1][3], scenes[0][4]):
        ask(robot, server, frame)
        assert server.session.places.nbytes < 900_000
    settings.places_megabytes = 0.0
    ask(robot, server, scenes[1][4])
    assert len(server.session.places) == 0


def test_what_equals_the_weights_file_is_not_kept():
    places = Places()
    place = places.enter(unit(0))
    weights = {'a': torch.ones(3), 'b': torch.ones(2)}
    places.leave(weights, {'a': torch.ones(3), 'b': torch.zeros(2)}, [])
    assert list(place.weights) == ['b'] and place.weights_checksum == checksum(weights)


def test_other_classes_forget_the_places(make_server, student, scenes):  # noqa: F811
    robot, server = Robot(student), make_server()
    patrol(robot, server, scenes)
    robot.client.want(load_classes(['person', 'blob: dog, horse']))
    ask(robot, server, scenes[0][3])
    assert not left(server) and len(server.session.places) == 1


# --- kept on a disk ------------------------------------------------------------------------------

def started_again(server, make_server, robot, change=lambda tensors, meta: None):  # noqa: F811
    tensors, meta = server.export()
    tensors, meta = {k: v.clone() for k, v in tensors.items()}, json.loads(json.dumps(meta))
    change(tensors, meta)
    other = make_server()
    other.restore(tensors, meta)
    robot.client.forget_teacher()
    return other


def test_a_server_that_is_started_again_knows_the_places(
        make_server, student, scenes):  # noqa: F811
    robot, server = Robot(student), make_server()
    patrol(robot, server, scenes)
    other = copy.deepcopy(robot)
    other.client._send = other._key_frames.append
    again = started_again(server, make_server, other)
    assert again.session.places.nbytes == server.session.places.nbytes
    assert again.session.places.here.count == 3
    for frame in (scenes[0][3], scenes[0][4], scenes[1][3], scenes[0][0]):
        went_on, goes_on = ask(robot, server, frame), ask(other, again, frame)
        assert goes_on.tensors == went_on.tensors and goes_on.metric_after == went_on.metric_after
        assert goes_on.base_checksum == went_on.base_checksum and not goes_on.label


@pytest.mark.parametrize('change', [
    lambda tensors, meta: tensors.pop('places.0.signature'),
    lambda tensors, meta: tensors.pop('places.0.memory.0.image'),
    lambda tensors, meta: tensors.update({
        next(name for name in tensors if name.startswith('places.0.weights')): torch.zeros(3)}),
    lambda tensors, meta: tensors.update({'places.0.weights.unknown': torch.zeros(3)}),
    lambda tensors, meta: meta['session']['places'][0].pop('count'),
    lambda tensors, meta: meta['session'].pop('places')])
def test_places_that_do_not_fit_are_not_gone_on_from(
        make_server, student, scenes, change):  # noqa: F811
    robot, server = Robot(student), make_server()
    patrol(robot, server, scenes)
    with pytest.raises(SessionError, match='not what a teacher saves'):
        started_again(server, make_server, robot, change)
