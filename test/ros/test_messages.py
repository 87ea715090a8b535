"""What the nodes make of messages, and of hostile ones."""

import numpy as np
import pytest

from shadowtutor_ros.msg import KeyFrame, WeightUpdate
from shadowtutor_ros.nodes.messages import key_frame_from_message, update_from_message
from shadowtutor_ros.wire.key_frame import encode_image

HOSTILE = 'a\nb\x1b[31m' + 10 ** 6 * 'c'


@pytest.mark.parametrize('field', ['model_id', 'teacher', 'refusal', 'text', 'encoding'])
def test_texts_of_an_update_are_short_lines(field):
    update = update_from_message(WeightUpdate(**{field: HOSTILE}))
    text = update.tensors.encoding if field == 'encoding' else getattr(update, field)
    assert text.startswith('a?b?[31mc') and len(text) == 400


@pytest.mark.parametrize('field', ['model_id', 'student'])
def test_texts_of_a_key_frame_are_short_lines(field):
    message = KeyFrame(**{field: HOSTILE})
    message.image.format, data = encode_image(np.zeros((48, 64, 3), np.uint8), 'png')
    message.image.data = data.tobytes()
    text = getattr(key_frame_from_message(message), field)
    assert text.startswith('a?b?[31mc') and len(text) == 400


def test_an_unknown_refusal_has_a_reason_of_few():
    reasons = {update_from_message(WeightUpdate(refusal=refusal)).refusal_reason
               for refusal in ('training', 'a', 'b', HOSTILE)}
    assert reasons == {'training', 'other'}
