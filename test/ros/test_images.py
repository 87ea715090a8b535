"""Images to arrays and back."""

import io

import cv2
import numpy as np
import PIL.Image
import pytest
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from shadowtutor_ros.nodes.images import ImageMessageError, to_bgr, to_bytes, to_message


def test_round_trip_is_without_loss_and_without_a_copy(frame):
    message = to_message(frame, 'bgr8', Header(frame_id='eye'))
    assert message.header.frame_id == 'eye'
    back = to_bgr(message)
    assert np.array_equal(back, frame)
    assert np.shares_memory(back, np.frombuffer(message.data, np.uint8))


def test_views_are_made_whole(frame):
    assert np.array_equal(to_bgr(to_message(frame[:, ::-1], 'bgr8', Header())), frame[:, ::-1])


def test_rows_may_be_padded(frame):
    padded = np.zeros((64, 96 * 3 + 8), np.uint8)
    padded[:, :96 * 3] = frame.reshape(64, -1)
    message = to_message(frame, 'bgr8', Header())
    message.step, message.data = padded.shape[1], to_bytes(padded)
    assert np.array_equal(to_bgr(message), frame)


def test_rgb_is_turned(frame):
    assert np.array_equal(to_bgr(to_message(frame, 'rgb8', Header())), frame[:, :, ::-1])


@pytest.mark.parametrize('change', [
    {'encoding': 'sixteen_bit_rainbow'}, {'height': 63},
    {'height': 8, 'data': to_bytes(bytes(8 * 288))},
    {'step': 10}, {'encoding': 'bgr8', 'step': 0, 'data': to_bytes(b'')}])
def test_what_cannot_be_converted_is_one_clear_error(frame, change):
    message = to_message(frame, 'bgr8', Header())
    for name, value in change.items():
        setattr(message, name, value)
    with pytest.raises(ImageMessageError) as error:
        to_bgr(message)
    assert '\n' not in str(error.value)


def test_garbage_is_no_compressed_image():
    with pytest.raises(ImageMessageError, match='cannot be decoded'):
        to_bgr(CompressedImage(format='jpeg', data=to_bytes(b'garbage')))
    with pytest.raises(ImageMessageError, match='cannot be decoded'):
        to_bgr(CompressedImage(format='jpeg'))


def test_a_compressed_image_may_be_too_large():
    file = io.BytesIO()
    PIL.Image.new('1', (10000, 10000)).save(file, 'png')
    with pytest.raises(ImageMessageError, match='10000x10000 pixels is larger'):
        to_bgr(CompressedImage(format='png', data=to_bytes(file.getvalue())))


def test_an_endless_encoding_is_cut():
    message = Image(height=64, width=96, step=96, encoding='x' * 10 ** 6)
    message.data = to_bytes(bytes(64 * 96))
    with pytest.raises(ImageMessageError) as error:
        to_bgr(message)
    assert len(str(error.value)) < 300


def test_a_compressed_image_may_be_too_small_too():
    data = cv2.imencode('.png', np.zeros((20, 64, 3), np.uint8))[1]
    with pytest.raises(ImageMessageError, match='64x20 pixels is too small: expected 33x33'):
        to_bgr(CompressedImage(format='png', data=to_bytes(data)))
