"""The engine's data classes as messages and back."""

from dataclasses import fields

import numpy as np
import pytest
from std_msgs.msg import Header

from shadowtutor_ros.msg import KeyFrame as KeyFrameMessage
from shadowtutor_ros.msg import WeightUpdate as WeightUpdateMessage
from shadowtutor_ros.nodes.messages import (
    key_frame_from_message, key_frame_to_message, plain, update_from_message, update_to_message)
from shadowtutor_ros.wire.key_frame import decode_image, encode_image, KeyFrame
from shadowtutor_ros.wire.weight_update import PackedTensors, Status, WeightUpdate

HOSTILE = 'a\nb\x1b[31m' + 10 ** 6 * 'c'


def header():
    return Header(frame_id='camera')


def test_a_key_frame_comes_back(frame):
    sent = KeyFrame(
        session_id=2 ** 64 - 1, number=2, frame_index=3, model_id='model', initial_checksum=4,
        weights_version=5, weights_checksum=6, frame=frame, student_id=2 ** 64 - 7,
        student='/robot/student', teacher_id=2 ** 64 - 8, useful_seconds=9.5)
    message = key_frame_to_message(sent, header(), 'png', 90, 0)
    assert message.header == message.image.header == header()
    received = key_frame_from_message(message)
    for field in fields(KeyFrame):
        if field.name != 'image':
            assert np.array_equal(getattr(received, field.name), getattr(sent, field.name)), field
    # With it comes the image as it was, which is small enough to be kept.
    assert received.image == (message.image.format, message.image.data.tobytes())
    assert np.array_equal(decode_image(*received.image), frame)


def test_an_update_comes_back():
    sent = WeightUpdate(
        session_id=2 ** 64 - 1, key_frame_number=2, model_id='model', teacher_id=2 ** 64 - 3,
        teacher='/teacher', status=Status.DONE, refusal='too_late', text='a word',
        needed_seconds=4.5, base_checksum=5, weights_checksum=6,
        tensors=PackedTensors('int4', (7, 8), b'blob', 9, 10), label=b'label', classes=(0, 8),
        metric_before=0.25, metric_after=0.5, threshold=0.75, steps=11, max_updates=12,
        teacher_seconds=13.5, training_seconds=14.5)
    message = update_to_message(sent, header(), 15.5)
    assert message.header == header() and message.total_seconds == 15.5
    assert update_from_message(message) == sent


def test_text_from_the_network_is_one_short_line():
    assert plain('a\nb\x07\x1b[31m é') == 'a?b??[31m é'
    assert len(plain('x' * 10 ** 6)) == 400


@pytest.mark.parametrize('field', ['model_id', 'teacher', 'refusal', 'text', 'encoding'])
def test_texts_of_an_update_are_short_lines(field):
    update = update_from_message(WeightUpdateMessage(**{field: HOSTILE}))
    text = update.tensors.encoding if field == 'encoding' else getattr(update, field)
    assert text.startswith('a?b?[31mc') and len(text) == 400


@pytest.mark.parametrize('field', ['model_id', 'student'])
def test_texts_of_a_key_frame_are_short_lines(field):
    message = KeyFrameMessage(**{field: HOSTILE})
    message.image.format, data = encode_image(np.zeros((48, 64, 3), np.uint8), 'png')
    message.image.data = data.tobytes()
    text = getattr(key_frame_from_message(message), field)
    assert text.startswith('a?b?[31mc') and len(text) == 400


def test_an_unknown_refusal_has_a_reason_of_few():
    reasons = {update_from_message(WeightUpdateMessage(status=2, refusal=refusal)).refusal_reason
               for refusal in ('training', 'a', 'b', HOSTILE)}
    assert reasons == {'training', 'other'}
