"""What a teacher is given and gives is checked here, and what it cannot do is said."""

import numpy as np

from shadowtutor_ros.classes import IGNORE
from shadowtutor_ros.models.teachers.base import TeacherPrediction


class TeacherError(ValueError):
    """A teacher that is unknown, cannot be loaded, or breaks the contract; one line says why."""


def one_line(error: BaseException) -> str:
    """Return the first line of an error's text, or its type where it has none."""
    return str(error).strip().partition('\n')[0] or type(error).__name__


def no_scores(name: str, score_threshold: float) -> TeacherError:
    """Return what is raised where a threshold is given to a teacher without scores."""
    return TeacherError(
        f"the teacher '{name}' has no scores, but got the score_threshold {score_threshold}: "
        'leave it out')


def no_mask_threshold(name: str, mask_threshold: float) -> TeacherError:
    """Return what is raised where a threshold is given to a teacher that has none for masks."""
    return TeacherError(
        f"the teacher '{name}' takes no mask_threshold, but got {mask_threshold}: leave it out; "
        'a detector with a SAM and SAM 3 take one')


def check_frame(frame: np.ndarray) -> None:
    """
    Check that a frame is an image.

    :raises ValueError: if it is not an H×W×3 uint8 array with pixels.
    """
    if not isinstance(frame, np.ndarray):
        raise ValueError(f'a frame is a {type(frame).__name__}, wanted an H×W×3 uint8 array, BGR')
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or not frame.size:
        raise ValueError(
            f'a frame has shape {frame.shape} and dtype {frame.dtype}, wanted H×W×3 uint8, BGR')


def check_prediction(
        prediction: TeacherPrediction, frame: np.ndarray, name: str,
        num_classes: int) -> TeacherPrediction:
    """
    Check what somebody else's teacher says of a frame.

    :param prediction: anything; what is wanted is said by :class:`TeacherPrediction`.
    :param frame: H×W×3, the frame that it is about.
    :param name: of the teacher, for the errors.
    :param num_classes: that it may label with.
    :returns: the prediction, its boxes as float32.
    :raises TeacherError: if it is something else, its label is not H×W uint8, holds ids that are
        neither a class nor ``IGNORE``, or its boxes are not finite N×4 floats.
    """
    if not isinstance(prediction, TeacherPrediction):
        raise TeacherError(
            f"the teacher '{name}' returned a {type(prediction).__name__}, wanted a "
            'shadowtutor_ros.models.teachers.base.TeacherPrediction')
    label, boxes = prediction.label, prediction.boxes
    if not isinstance(label, np.ndarray) or not isinstance(boxes, np.ndarray):
        raise TeacherError(
            f"the teacher '{name}' returned a label of type {type(label).__name__} and boxes of "
            f'type {type(boxes).__name__}, wanted numpy arrays')
    if label.dtype != np.uint8 or label.shape != frame.shape[:2]:
        raise TeacherError(
            f"the teacher '{name}' returned a label of shape {label.shape} and dtype "
            f"{label.dtype}, wanted {frame.shape[:2]}, the frame's, and uint8")
    strange = (label >= num_classes) & (label != IGNORE)
    if strange.any():
        raise TeacherError(
            f"the teacher '{name}' returned a label with the class id {label[strange][0]}, wanted "
            f'0 to {num_classes - 1}, or {IGNORE} for what is not to count')
    if not np.issubdtype(boxes.dtype, np.floating) or boxes.ndim != 2 or boxes.shape[1] != 4:
        raise TeacherError(
            f"the teacher '{name}' returned boxes of shape {boxes.shape} and dtype {boxes.dtype}, "
            'wanted N×4 float32: x1, y1, x2, y2 in pixels')
    if not np.isfinite(boxes).all():
        raise TeacherError(f"the teacher '{name}' returned boxes that are not finite")
    scores = prediction.scores
    if scores is not None:
        scores = np.asarray(scores)
        if scores.shape != boxes.shape[:1] or not np.issubdtype(scores.dtype, np.floating):
            raise TeacherError(
                f"the teacher '{name}' returned scores of shape {scores.shape} and dtype "
                f'{scores.dtype}, wanted ({len(boxes)},) float32, or None')
        scores = scores.astype(np.float32)
    # Copies: they are remembered, and the teacher may fill the same arrays again.
    return TeacherPrediction(label.copy(), boxes.astype(np.float32), scores)
