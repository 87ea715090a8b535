"""The package's messages to the engine's data classes and back."""

from sensor_msgs.msg import CompressedImage
from std_msgs.msg import Header

from shadowtutor_ros.msg import KeyFrame as KeyFrameMessage
from shadowtutor_ros.msg import WeightUpdate as WeightUpdateMessage
from shadowtutor_ros.nodes.images import to_bytes
from shadowtutor_ros.wire.key_frame import KeyFrame, KeyFrameDecoder, KeyFrameEncoder
from shadowtutor_ros.wire.weight_update import PackedTensors, WeightUpdate


def key_frame_to_message(
        key_frame: KeyFrame, header: Header, image_format: str, quality: int, max_width: int,
        encoder: KeyFrameEncoder | None = None) -> KeyFrameMessage:
    """
    Encode a key frame.

    :param header: of the camera image.
    :param image_format, quality, max_width: as ``encoder`` takes them.
    :param encoder: of the student's key frames; None: one for this alone.
    """
    encoder = encoder or KeyFrameEncoder()
    image_format, data = encoder(key_frame, image_format, quality, max_width)
    return KeyFrameMessage(
        header=header, student_id=key_frame.student_id, student=key_frame.student,
        session_id=key_frame.session_id, key_frame_number=key_frame.number,
        frame_index=key_frame.frame_index, teacher_id=key_frame.teacher_id,
        useful_seconds=key_frame.useful_seconds, model_id=key_frame.model_id,
        initial_checksum=key_frame.initial_checksum,
        weights_checksum=key_frame.weights_checksum, weights_version=key_frame.weights_version,
        classes_digest=key_frame.classes_digest, classes=list(key_frame.classes),
        background=key_frame.background,
        image=CompressedImage(header=header, format=image_format, data=to_bytes(data)))


def key_frame_from_message(
        message: KeyFrameMessage, decoder: KeyFrameDecoder | None = None) -> KeyFrame:
    """
    Decode a key frame.

    :param decoder: of the robot's key frames; None: one for this alone.
    :raises KeyFrameError: if its image cannot be read.
    """
    decoder = decoder or KeyFrameDecoder()
    frame, (image_format, image) = decoder(
        message.session_id, message.key_frame_number, message.image.format, message.image.data)
    return KeyFrame(
        message.session_id, message.key_frame_number, message.frame_index,
        plain(message.model_id), message.initial_checksum, message.weights_version,
        message.weights_checksum, frame,
        message.student_id, plain(message.student), message.teacher_id, message.useful_seconds,
        message.classes_digest, tuple(message.classes), message.background,
        (plain(image_format), image))


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
        model_id=update.model_id, teacher_id=update.teacher_id, teacher=update.teacher,
        status=int(update.status), refusal=update.refusal, text=update.text,
        needed_seconds=update.needed_seconds, base_checksum=update.base_checksum,
        weights_checksum=update.weights_checksum, encoding=tensors.encoding,
        tensors=tensors.places, blob=to_bytes(tensors.blob),
        uncompressed_size=tensors.uncompressed_size, blob_checksum=tensors.checksum,
        label=to_bytes(update.label), classes=update.classes,
        metric_before=update.metric_before, metric_after=update.metric_after,
        threshold=update.threshold, steps=update.steps, max_updates=update.max_updates,
        teacher_seconds=update.teacher_seconds, training_seconds=update.training_seconds,
        total_seconds=total_seconds)


def update_from_message(message: WeightUpdateMessage) -> WeightUpdate:
    """
    Decode a weight update; what it says is checked by ``Client.on_update``.

    :param message: whose sizes ``Client.screen`` has found possible.
    """
    return WeightUpdate(
        session_id=message.session_id, key_frame_number=message.key_frame_number,
        model_id=plain(message.model_id), teacher_id=message.teacher_id,
        teacher=plain(message.teacher), status=message.status, refusal=plain(message.refusal),
        text=plain(message.text),
        needed_seconds=message.needed_seconds, base_checksum=message.base_checksum,
        weights_checksum=message.weights_checksum,
        tensors=PackedTensors(
            plain(message.encoding), tuple(message.tensors), message.blob.tobytes(),
            message.uncompressed_size, message.blob_checksum),
        label=message.label.tobytes(), classes=tuple(message.classes),
        metric_before=message.metric_before, metric_after=message.metric_after,
        threshold=message.threshold, steps=message.steps, max_updates=message.max_updates,
        teacher_seconds=message.teacher_seconds, training_seconds=message.training_seconds)


def plain(text: str) -> str:
    """Return text from the network as people may read it: one line of at most 400 characters."""
    return ''.join(
        character if character.isprintable() else '?' for character in text[:400])
