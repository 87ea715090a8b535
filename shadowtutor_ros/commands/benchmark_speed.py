"""
What the computation costs, as ratios to the plain way of doing the same.

The plain way is the first implementation's: float32 in PyTorch's default memory layout, each layer
after the other, the whole network forward in every training step. What is compared is run in turn
in one process, and medians are given, since machines are shared and change their clock.
"""

from contextlib import nullcontext
import copy
from dataclasses import replace
from itertools import cycle, islice
import os
from pathlib import Path
import platform
import statistics
import time
from typing import Callable, ContextManager, Sequence

import numpy as np
import torch

from shadowtutor_ros.algorithms.student_training import StudentTrainer, TrainingSettings
from shadowtutor_ros.classes import ClassTable
from shadowtutor_ros.models.student.base import Student
from shadowtutor_ros.models.student.inference import InferenceEngine, PRECISIONS
from shadowtutor_ros.models.teachers.base import TeacherPrediction
from shadowtutor_ros.wire.key_frame import (
    decode_image, encode_image, format_fault, FORMATS)
from shadowtutor_ros.wire.weight_update import ENCODINGS, pack, unpack

Tick = Callable[[], None]

#: Rounds before those that count: what is set up at the first call is not measured.
WARM_UP = 2

#: Quality that key frames are measured at, in formats that have one.
QUALITIES = (50, 70, 80, 90)


def describe_machine() -> dict[str, str | int]:
    """Return processor, cores, GPU, versions and threads."""
    cpu = platform.processor() or platform.machine()
    if (info := Path('/proc/cpuinfo')).is_file():
        names = [line.partition(':')[2].strip() for line in info.read_text().splitlines()
                 if line.startswith('model name')]
        cpu = names[0] if names else cpu
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else 'none'
    return {
        'cpu': cpu, 'instructions': torch.backends.cpu.get_cpu_capability(),
        'cores': os.cpu_count() or 0, 'gpu': gpu, 'python': platform.python_version(),
        'torch': torch.__version__, 'threads': torch.get_num_threads(),
        'load': round(os.getloadavg()[0], 1)}


def _float32() -> ContextManager[None]:
    """Keep PyTorch from its default on CUDA, TensorFloat-32, which rounds to ten bits."""
    return torch.backends.cudnn.flags(enabled=True, allow_tf32=False)


def _to_batch(frame: np.ndarray, device: str) -> torch.Tensor:
    return torch.from_numpy(frame.copy()).to(device).permute(2, 0, 1)[None].float().contiguous()


def measure_inference(
        student: Student, frames: Sequence[np.ndarray], rounds: int, device: str = 'cpu',
        tick: Tick = lambda: None) -> dict[str, dict[str, float]]:
    """
    Compare the inference path with the plain one.

    :param frames: H×W×3 uint8, BGR.
    :param rounds: in each all ways are timed on one frame.
    :param tick: called after every round.
    :returns: for 'plain' and each precision: ``ms`` a frame, and for the latter ``speedup`` and
        the share of ``equal_pixels``.
    """
    network = copy.deepcopy(student).to(device).eval()

    @torch.inference_mode()
    def plain(frame: np.ndarray) -> np.ndarray:
        with _float32():
            return network.plain_logits(_to_batch(frame, device))[0].argmax(0).cpu().numpy()

    ways = {'plain': plain, **{
        precision: InferenceEngine(student, precision, device) for precision in PRECISIONS}}
    times: dict[str, list[float]] = {name: [] for name in ways}
    equal: dict[str, list[float]] = {name: [] for name in ways}
    for index, frame in enumerate(islice(cycle(frames), WARM_UP + rounds)):
        masks = {}
        for name, infer in ways.items():
            begin = time.perf_counter()
            masks[name] = infer(frame)
            times[name].append(time.perf_counter() - begin)
            equal[name].append(float((masks[name] == masks['plain']).mean()))
        tick()
    medians = {name: statistics.median(values[WARM_UP:]) for name, values in times.items()}
    return {name: {'ms': median * 1e3, 'speedup': medians['plain'] / median,
                   'equal_pixels': statistics.mean(equal[name])}
            for name, median in medians.items()}


def measure_training(
        student: Student, frame: np.ndarray, teaching: TeacherPrediction,
        settings: TrainingSettings, rounds: int, device: str = 'cpu', tick: Tick = lambda: None
) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
    """
    Compare training steps of Algorithm 1 with plain ones.

    :param frame: H×W×3 uint8, BGR.
    :param settings: its threshold must be out of reach, so that all steps are taken.
    :param rounds: in each all steps are taken both ways.
    :param tick: called after every round.
    :returns: ``plain_ms`` and ``ms`` a step, ``speedup``, and the largest difference of the
        ``losses`` of the two; and the trained tensors by name.
    """
    times: dict[str, list[float]] = {'plain': [], 'own': []}
    for _ in range(rounds):
        losses = {}
        for name in times:
            trained = copy.deepcopy(student).to(device)
            trainer = StudentTrainer(trained, replace(settings, plain=name == 'plain'))
            ticks: list[float] = []
            with _float32() if name == 'plain' else nullcontext():
                result = trainer(frame, teaching, lambda: ticks.append(time.perf_counter()))
            losses[name] = result.losses
            times[name] += np.diff(ticks).tolist()
        tick()
    plain, own = (statistics.median(times[name]) for name in ('plain', 'own'))
    return {
        'plain_ms': plain * 1e3, 'ms': own * 1e3, 'speedup': plain / own,
        'steps': len(losses['own']),
        'largest_loss_difference': float(np.abs(np.subtract(*losses.values())).max()),
    }, trained.tensors(settings.scope)


def measure_classes(
        student: Student, frame: np.ndarray, teaching: TeacherPrediction, classes: ClassTable,
        rounds: int, device: str = 'cpu', tick: Tick = lambda: None) -> dict[str, float]:
    """
    Compare frames and training steps of a large class table with those of the student's own.

    In both the classes of the label alone are on offer.

    :param frame: H×W×3 uint8, BGR.
    :param teaching: its label, of the student's classes.
    :param classes: the large table, which has these by name.
    :param rounds: in each all is timed once.
    :param tick: called after every round.
    :returns: for frames and steps: ``own_ms``, ``ms`` and their ratio, ``growth``.
    """
    own = student.classes
    weights = student.with_classes(student.weights(), own, classes, (student.weights(), own))
    large = student.copy_with(weights, classes).to(device)
    places = {name: place for place, name in enumerate(classes.names)}
    label = np.array([places.get(name, classes.background) for name in own.names], np.uint8)
    known = [places[name] for name in own.names if name in places]
    settings = TrainingSettings(threshold=1.0, max_updates=4, replay=0)
    ways = {
        'own': (student, teaching, None),
        '': (large, replace(teaching, label=label[teaching.label]), known)}
    engines = {}
    for name, (one, told, _) in ways.items():
        engines[name] = InferenceEngine(one, device=device)
        engines[name].restrict(tuple(np.unique(told.label).tolist()))
    times: dict[str, list[float]] = {
        f'{what}{name}': [] for what in ('frame ', 'step ') for name in ways}
    for _ in range(WARM_UP + rounds):
        for name, (one, told, learnt) in ways.items():
            begin = time.perf_counter()
            engines[name](frame)
            times[f'frame {name}'].append(time.perf_counter() - begin)
            trainer = StudentTrainer(copy.deepcopy(one).to(device), settings, learnt)
            ticks: list[float] = []
            trainer(frame, told, lambda: ticks.append(time.perf_counter()))
            times[f'step {name}'].append(statistics.median(np.diff(ticks)))
        tick()
    medians = {name: statistics.median(values[WARM_UP:]) for name, values in times.items()}
    return {'classes': len(classes), **{
        f'{what}_{key}': value for what in ('frame', 'step') for key, value in (
            ('own_ms', 1e3 * medians[f'{what} own']), ('ms', 1e3 * medians[f'{what} ']),
            ('growth', medians[f'{what} '] / medians[f'{what} own']))}}


def measure_key_frames(
        frames: Sequence[np.ndarray], tick: Tick = lambda: None) -> dict[str, dict[str, float]]:
    """
    Measure what it takes to send key frames.

    :param tick: called after every way of coding.
    :returns: by format and quality: mean ``bytes``, median ``encode_ms`` and ``decode_ms``.
    """
    results = {}
    for image_format in FORMATS:
        if format_fault(image_format):
            continue
        lossless = image_format in ('png', 'raw')
        for quality in QUALITIES[:1] if lossless else QUALITIES:
            sizes, encoding, decoding = [], [], []
            for frame in frames:
                begin = time.perf_counter()
                kind, data = encode_image(frame, image_format, quality)
                encoded = time.perf_counter()
                decode_image(kind, data)
                decoding.append(time.perf_counter() - encoded)
                encoding.append(encoded - begin)
                sizes.append(len(data))
            name = image_format if lossless else f'{image_format} {quality}'
            results[name] = {
                'bytes': statistics.mean(sizes), 'encode_ms': statistics.median(encoding) * 1e3,
                'decode_ms': statistics.median(decoding) * 1e3}
            tick()
    return results


def measure_updates(
        base: dict[str, torch.Tensor], trained: dict[str, torch.Tensor], rounds: int = 5,
        tick: Tick = lambda: None) -> dict[str, dict[str, float]]:
    """
    Measure what it takes to send weight updates.

    :param base: what the robot holds, by name.
    :param trained: what it is to hold.
    :param tick: called after every encoding.
    :returns: by encoding: ``bytes``, median ``pack_ms`` and ``unpack_ms``, and by how much the
        robot's weights then differ, as a share of the change: the root mean square ``error``.
    """
    def flat(tensors: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.cat([tensors[name].detach().cpu().flatten() for name in trained])

    results = {}
    for encoding in ENCODINGS:
        packing, unpacking = [], []
        for _ in range(rounds):
            begin = time.perf_counter()
            packed = pack(trained, encoding, base)
            done = time.perf_counter()
            unpacked = unpack(packed, base)
            unpacking.append(time.perf_counter() - done)
            packing.append(done - begin)
        error = (flat(unpacked) - flat(trained)).norm() / (flat(trained) - flat(base)).norm()
        results[encoding] = {
            'bytes': len(packed.blob), 'pack_ms': statistics.median(packing) * 1e3,
            'unpack_ms': statistics.median(unpacking) * 1e3, 'error': float(error)}
        tick()
    return results
