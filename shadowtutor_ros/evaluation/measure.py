"""Profiles of this machine: what the student, its training and the teacher take here."""

from dataclasses import replace
import statistics
import time
from typing import Callable

import numpy as np

from shadowtutor_ros.algorithms.client import Client
from shadowtutor_ros.algorithms.server import Server
from shadowtutor_ros.evaluation.profile import Link, Profile, ProfileError
from shadowtutor_ros.evaluation.simulate import Method
from shadowtutor_ros.models.student.base import Student
from shadowtutor_ros.models.student.inference import InferenceEngine
from shadowtutor_ros.models.teachers.base import Teacher, TeacherPrediction
from shadowtutor_ros.wire.key_frame import KeyFrame, KeyFrameDecoder, KeyFrameEncoder

_INFERENCES = 15
_LABELLINGS = 5
_STEPS = 6


def measure_profile(
        student: Student, teacher: Teacher, frame: np.ndarray, method: Method, link: Link,
        device: str = 'cpu') -> Profile:
    """
    Measure t_si, t_sd and t_ti on this machine, and the bytes of a key frame and its update.

    :param student: the weights to begin with.
    :param teacher: labels the frame.
    :param frame: H×W×3 uint8, BGR, of the size that counts.
    :param method: its settings say how key frames are coded and what is trained and sent.
    :param link: of the network, which cannot be measured on one machine.
    :param device: of PyTorch.
    :raises ProfileError: if the frame does not let the student take a training step.
    """
    engine = InferenceEngine(student, device=device)
    t_si = _median(lambda: engine(frame), _INFERENCES)

    sent: list[KeyFrame] = []
    Client(engine, sent.append, method.client, session_id=1).on_frame(frame, 0.0)
    image_format, data = KeyFrameEncoder()(
        sent[0], method.image_format, method.quality, method.max_width)
    key_frame_image, _ = KeyFrameDecoder()(1, 1, image_format, data)
    t_ti = _median(lambda: teacher(key_frame_image, student.classes), _LABELLINGS)

    key_frame = replace(sent[0], frame=key_frame_image)
    teaching = teacher(key_frame_image, student.classes)
    t_sd, update_bytes = _measure_training(student, teaching, key_frame, method, device)
    full = replace(method, server=replace(method.server, scope='full'))
    t_sd_full, _ = _measure_training(student, teaching, key_frame, full, device)
    size = f'{frame.shape[1]}x{frame.shape[0]}'
    return Profile(
        'measured', t_si, t_sd, t_ti, link, float(len(data)), float(update_bytes), {
            't_si': f'Median of {_INFERENCES} inferences at {size} on {device}.',
            't_sd': f'Median of {_STEPS - 1} training steps of the scope {method.server.scope} at '
            f'{key_frame_image.shape[1]}x{key_frame_image.shape[0]}.',
            't_sd_full': 'Likewise, of the scope full.',
            't_ti': f'Median of {_LABELLINGS} frames.',
            'link': 'Given, not measured.',
            'key_frame_bytes': f'Of one frame, {method.image_format}.',
            'update_bytes': f'After {_STEPS} steps on one frame, {method.server.encoding}.'},
        t_sd_full)


def _median(work: Callable[[], object], count: int) -> float:
    work()  # the first is slower
    times = []
    for _ in range(count):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def _measure_training(
        student: Student, teaching: TeacherPrediction, key_frame: KeyFrame, method: Method,
        device: str) -> tuple[float, int]:
    """Return the seconds of a training step, and the bytes of an update."""
    ticks: list[float] = []
    # Not layer by layer, which no node does.
    settings = replace(
        method.server, threshold=0.9999, max_updates=_STEPS, training_seconds=0.0, plain=False)
    server = Server(student, lambda frame, classes: teaching, settings, time.perf_counter, device)
    update = server.on_key_frame(key_frame, lambda: ticks.append(time.perf_counter()))
    if len(ticks) < 2:
        raise ProfileError(
            'the first frame asks for no training, so t_sd cannot be measured on it: put another '
            'video first')
    return float(np.median(np.diff(ticks))), len(update.tensors.blob)
