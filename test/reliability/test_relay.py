"""What the relay makes of messages; the relay itself runs in the test of the command."""

import numpy as np
import pytest

from shadowtutor_ros.msg import KeyFrame, WeightUpdate
from shadowtutor_ros.nodes.images import to_bytes
from shadowtutor_ros.reliability import relay
from shadowtutor_ros.wire.key_frame import decode_image, encode_image


@pytest.fixture
def lane():
    """Return a lane that keeps what it passes on."""
    passed = []
    lane = relay.Lane(passed.append)
    lane.passed = passed
    return lane


def numbers(lane):
    return [message.key_frame_number for message in lane.passed]


def send(lane, *key_frame_numbers):
    for number in key_frame_numbers:
        lane(WeightUpdate(key_frame_number=number, blob=to_bytes(bytes(number))))


def test_undisturbed_messages_pass_as_they_are(lane):
    update = WeightUpdate(key_frame_number=7)
    lane(update)
    assert lane.passed == [update] and lane.passed[0] is update


def test_a_number_of_messages_is_lost(lane):
    happened = lane.disturb(relay.lose, 2)
    send(lane, 1)
    assert not happened()
    send(lane, 2, 3)
    assert happened() and numbers(lane) == [3]


def test_only_messages_that_are_wanted_are_disturbed(lane):
    happened = lane.disturb(relay.lose, 1, relay.has_weights)
    send(lane, 0)
    assert not happened() and numbers(lane) == [0]
    send(lane, 1, 2)
    assert happened() and numbers(lane) == [0, 2]


def test_messages_are_doubled_until_told_otherwise(lane):
    happened = lane.disturb(relay.double)
    send(lane, 1, 2)
    assert not happened()
    lane.pass_on()
    send(lane, 3)
    assert numbers(lane) == [1, 1, 2, 2, 3]


def test_two_messages_are_swapped(lane):
    happened = lane.disturb(relay.swap(), 2)
    send(lane, 1, 2)
    assert happened()
    send(lane, 3)
    assert numbers(lane) == [2, 1, 3]


def test_another_session_comes_before_the_own():
    other, own = relay.from_another_session(WeightUpdate(session_id=6, key_frame_number=2))
    assert own.session_id == 6 != other.session_id
    assert other.key_frame_number == 2


def test_one_bit_is_flipped():
    blob = bytes(range(200))
    [update] = relay.flip_a_bit(WeightUpdate(blob=to_bytes(blob)))
    changed = np.bitwise_xor(np.frombuffer(blob, np.uint8), np.array(update.blob))
    assert np.unpackbits(changed).sum() == 1


def test_a_corrupted_image_cannot_be_read():
    frame = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    message = KeyFrame()
    message.image.format, data = encode_image(frame, 'webp')
    message.image.data = to_bytes(data)
    assert decode_image('webp', message.image.data).shape == frame.shape
    [message] = relay.corrupt_image(message)
    assert len(message.image.data) == len(data)
    with pytest.raises(ValueError):
        decode_image('webp', message.image.data)
