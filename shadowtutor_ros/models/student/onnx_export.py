"""
A student as ONNX, for those who run it elsewhere: with ONNX Runtime, TensorRT, OpenVINO.

The file takes ``image``, N×3×H×W float32: BGR, 0 to 255, nothing subtracted, which is what
``cv2.dnn.blobFromImage(frame)`` makes of a frame. It gives ``mask``, N×H×W int32, the ids of the
class table; and ``logits``, N×classes×h×w float32, what the mask is made of before it is enlarged
bilinearly: an integer part of H×W (of both padded to the multiple that the student needs).
"""

import copy
from dataclasses import dataclass
import inspect
import io
import json
from typing import Any
import warnings

import numpy as np
import torch
from torch import nn
import torch.nn.functional as F

from shadowtutor_ros.classes import ClassTable
from shadowtutor_ros.errors import describe
from shadowtutor_ros.models.student.base import Student
from shadowtutor_ros.models.student.inference import InferenceEngine

#: Every runtime of these years has it: ONNX Runtime 1.13 and TensorRT 8.5 too.
OPSET = 17

#: Logits may differ by so much of the largest of them: rounding, in another order. Where two
#: classes are as likely, that decides.
TOLERANCE = 1e-3
#: Pixels of a frame that have to be equal at least.
EQUAL_PIXELS = 0.999


class OnnxExportError(ValueError):
    """What keeps a student from being exported, in one line."""


@dataclass(frozen=True)
class Comparison:
    """
    How an ONNX file does beside PyTorch on a frame.

    :ivar size: H and W of the frame.
    :ivar difference: of the logits, the largest.
    :ivar largest: of PyTorch's logits, without their signs.
    :ivar equal: share of pixels of the mask that are equal, 0 to 1.
    """

    size: tuple[int, int]
    difference: float
    largest: float
    equal: float

    @property
    def agrees(self) -> bool:
        """Whether they differ by rounding alone."""
        return self.difference <= TOLERANCE * self.largest and self.equal >= EQUAL_PIXELS


class _Exported(nn.Module):
    """What the ONNX file computes: see above."""

    def __init__(self, student: Student):
        super().__init__()
        self.student = _normalising_each(copy.deepcopy(student).cpu().eval())
        self.register_buffer('ids', torch.tensor(student.classes.ids, dtype=torch.int32))

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        student, (height, width) = self.student, image.shape[2:]
        logits = student.portable_logits(image)
        padded = student.padded(image).shape[2:]
        large = F.interpolate(logits, size=padded, mode='bilinear', align_corners=False)
        return self.ids[large[:, :, :height, :width].argmax(1)], logits


def _normalising_each(student: nn.Module) -> nn.Module:
    """
    Let every image of a batch be normalised by its own statistics, as a single one is.

    For one image the two are the same, and runtimes have no batch normalisation that trains.
    """
    for module in student.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.BatchNorm2d) and not child.track_running_stats:
                norm = nn.InstanceNorm2d(child.num_features, child.eps, affine=child.affine)
                norm.load_state_dict(child.state_dict())
                setattr(module, name, norm.eval())
    return student


def export_onnx(student: Student, size: tuple[int, int] | None) -> bytes:
    """
    Make an ONNX file of a student.

    :param student: its classes' names, ids and colours go into the metadata, with the licence.
    :param size: H and W that the file is for, with N = 1; None: N, H and W are free, the latter
        two multiples of the student's ``multiple``.
    :returns: the file.
    :raises OnnxExportError: if the package onnx is missing, or the student cannot be exported.
    """
    try:
        import onnx
    except ImportError as error:
        raise OnnxExportError(
            f"an export needs the package onnx ({error}): pip install 'onnx>=1.14,<2'") from None
    height, width = size or (8 * student.multiple, 12 * student.multiple)
    options: dict[str, Any] = {}
    if size is None:
        options['dynamic_axes'] = {
            'image': {0: 'n', 2: 'height', 3: 'width'}, 'mask': {0: 'n', 1: 'height', 2: 'width'},
            'logits': {0: 'n', 2: 'logits_height', 3: 'logits_width'}}
    # The other exporter needs onnxscript too, and none of its versions goes with torch 2.1.
    if 'dynamo' in inspect.signature(torch.onnx.export).parameters:
        options['dynamo'] = False
    file = io.BytesIO()
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter('ignore')  # of sides that are numbers by now, as they are to be
            torch.onnx.export(
                _Exported(student), (torch.zeros(1, 3, height, width),), file,
                input_names=['image'], output_names=['mask', 'logits'], opset_version=OPSET,
                **options)
    except Exception as error:  # of an architecture of somebody's own, which may hold anything
        raise OnnxExportError(
            f"the architecture '{student.architecture}' cannot be exported "
            f'({describe(error)}): let its portable_logits do with operations that '
            f'ONNX has in opset {OPSET}') from error
    model = onnx.load_from_string(file.getvalue())
    model.producer_name = 'shadowtutor_ros'
    for key, text in _metadata(student).items():
        model.metadata_props.add(key=key, value=text)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def _metadata(student: Student) -> dict[str, str]:
    """Return what the file says of itself: names and colours by the ids of the mask, and so on."""
    table: ClassTable = student.classes
    return {
        'names': json.dumps(dict(zip(table.ids, table.names))),
        'colors': json.dumps(dict(zip(table.ids, table.colors))),
        'background': str(table.ids[table.background]),
        'architecture': student.architecture,
        'input': 'BGR, 0 to 255, nothing subtracted; sides that are multiples of '
                 f'{student.multiple} where they are free',
        **{key: student.about[key] for key in ('licence', 'recipe') if key in student.about}}


def compare(file: bytes, student: Student, frames: np.ndarray) -> list[Comparison]:
    """
    Run an ONNX file beside PyTorch.

    :param file: of :func:`export_onnx`, of this student.
    :param frames: N×H×W×3 uint8, BGR, a batch of the file.
    :returns: of each frame.
    :raises OnnxExportError: if onnxruntime is missing, or cannot run the file.
    """
    try:
        import onnxruntime
    except (ImportError, OSError) as error:
        raise OnnxExportError(
            f'onnxruntime, which the file is checked with, cannot be imported ({error}): pip '
            "install 'onnxruntime>=1.16,<2'") from None
    images = np.ascontiguousarray(frames.transpose(0, 3, 1, 2), np.float32)
    try:
        session = onnxruntime.InferenceSession(file, providers=['CPUExecutionProvider'])
        masks, logits = session.run(['mask', 'logits'], {'image': images})
    except Exception as error:  # onnxruntime's errors have no common type but this
        raise OnnxExportError(f'onnxruntime cannot run the file ({describe(error)})') from None
    engine, found = InferenceEngine(student), []
    for frame, image, mask, logit in zip(frames, images, masks, logits, strict=True):
        with torch.no_grad():
            own = student.coarse_logits(student.front(torch.from_numpy(image[None])))[0].numpy()
        if own.shape != logit.shape or mask.shape != frame.shape[:2]:
            raise OnnxExportError(
                f'the file gives logits of {logit.shape} and a mask of {mask.shape}, wanted '
                f'{own.shape} and {frame.shape[:2]}')
        found.append(Comparison(
            frame.shape[:2], float(np.abs(own - logit).max()), float(np.abs(own).max()),
            float(np.mean(mask == student.classes.published(engine(frame))))))
    return found
