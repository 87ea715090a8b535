"""The package's messages to the engine's data classes and back."""

import re

from sensor_msgs.msg import CompressedImage
from std_msgs.msg import Header

from shadowtutor_ros.msg import KeyFrame as KeyFrameMessage
from shadowtutor_ros.msg import WeightUpdate as WeightUpdateMessage
from shadowtutor_ros.nodes.images import to_bytes
from shadowtutor_ros.wire.key_frame import decode_image, encode_image, KeyFrame
from shadowtutor_ros.wire.weight_update import (
    PackedTensors, TensorEntry, UpdateRejected, WeightUpdate)


def key_frame_to_message(
        key_frame: KeyFrame, header: Header, image_format: str, quality: int, max_width: int
) -> KeyFrameMessage:
    """
    Encode a key frame.

    :param header: of the camera image.
    :param image_format, quality, max_width: see
        :func:`~shadowtutor_ros.wire.key_frame.encode_image`.
    """
    image_format, data = encode_image(key_frame.frame, image_format, quality, max_width)
    return KeyFrameMessage(
        header=header, session_id=key_frame.session_id, key_frame_number=key_frame.number,
        frame_index=key_frame.frame_index, model_id=key_frame.model_id,
        weights_version=key_frame.weights_version, weights_checksum=key_frame.weights_checksum,
        image=CompressedImage(header=header, format=image_format, data=to_bytes(data)))


def key_frame_from_message(message: KeyFrameMessage) -> KeyFrame:
    """
    Decode a key frame.

    :raises KeyFrameError: if its image cannot be read.
    """
    return KeyFrame(
        message.session_id, message.key_frame_number, message.frame_index, message.model_id,
        message.weights_version, message.weights_checksum,
        decode_image(message.image.format, message.image.data))


def update_to_message(
        update: WeightUpdate, header: Header, total_seconds: float) -> WeightUpdateMessage:
    """
    Encode a weight update.

    :param header: of the key frame.
    :param total_seconds: from the arrival of the key frame to now.
    """
    tensors = update.tensors
    return WeightUpdateMessage(
        header=header, session_id=update.session_id, key_frame_number=update.key_frame_number,
        model_id=update.model_id, base_version=update.base_version,
        new_version=update.new_version, weights_checksum=update.weights_checksum,
        scope=int(update.scope), encoding=tensors.encoding,
        names=[entry.name for entry in tensors.entries],
        dtypes=[entry.dtype for entry in tensors.entries],
        shapes=['x'.join(map(str, entry.shape)) for entry in tensors.entries],
        offsets=[entry.offset for entry in tensors.entries],
        blob=to_bytes(tensors.blob), uncompressed_size=tensors.uncompressed_size,
        blob_checksum=tensors.checksum, classes=update.classes, metric_before=update.metric_before,
        metric_after=update.metric_after, threshold=update.threshold, steps=update.steps,
        max_updates=update.max_updates,
        teacher_seconds=update.teacher_seconds, training_seconds=update.training_seconds,
        total_seconds=total_seconds)


def update_from_message(message: WeightUpdateMessage) -> WeightUpdate:
    """
    Decode a weight update; what it says is checked by ``Client.on_update``.

    :raises UpdateRejected: if its description of the tensors cannot be read.
    """
    counts = {len(message.names), len(message.dtypes), len(message.shapes), len(message.offsets)}
    if len(counts) != 1:
        raise UpdateRejected('layout', 'its lists of tensors have different lengths')
    shapes = []
    for shape in message.shapes:
        if not re.fullmatch(r'(\d{1,9}(x\d{1,9}){0,7})?', shape, re.ASCII):
            raise UpdateRejected('layout', f"'{shape[:40]}' is not a shape")
        shapes.append(tuple(map(int, shape.split('x'))) if shape else ())
    entries = tuple(map(
        TensorEntry, message.names, message.dtypes, shapes, message.offsets))
    return WeightUpdate(
        session_id=message.session_id, key_frame_number=message.key_frame_number,
        model_id=message.model_id, base_version=message.base_version,
        new_version=message.new_version, weights_checksum=message.weights_checksum,
        scope=message.scope,
        tensors=PackedTensors(
            message.encoding, entries, message.blob.tobytes(), message.uncompressed_size,
            message.blob_checksum),
        classes=tuple(message.classes), metric_before=message.metric_before,
        metric_after=message.metric_after,
        threshold=message.threshold, steps=message.steps, max_updates=message.max_updates,
        teacher_seconds=message.teacher_seconds, training_seconds=message.training_seconds)
