"""Teachers from ONNX files: YOLO-style instance segmentation."""

from collections.abc import Hashable
from pathlib import Path
from typing import Sequence

import cv2
import numpy as np

from shadowtutor_ros.classes import ClassTable, COCO_NAMES
from shadowtutor_ros.models.teachers.base import OneSize, TeacherPrediction
from shadowtutor_ros.models.teachers.checks import check_frame, TeacherError
from shadowtutor_ros.models.teachers.label_maps import paint_instances, suppress
from shadowtutor_ros.models.teachers.onnx_network import OnnxNetwork
from shadowtutor_ros.models.teachers.yolo_layouts import Layout, layout_of

_PADDING = 114  # the grey that these networks were trained with
_STRIDE = 32    # height and width of their input are multiples of it


class YoloOnnxTeacher(OneSize):
    """
    A YOLO-style instance segmentation network in an ONNX file, such as Ultralytics exports.

    Its input is 1×3×H×W, RGB from 0 to 1, H and W multiples of 32 or fixed by the file. Its
    outputs are what it found, in one of the layouts of :func:`.yolo_layouts.layout_of`, and
    1×K×H/4×W/4 mask prototypes. The categories are those that the file names, else COCO's 80.

    :param network: with these outputs.
    :param score_threshold: instances with a higher score count, 0 to 1.
    :param long_side: pixels that a frame's longer side is resized to; None: its own. A file with
        a fixed input decides for itself.
    :raises TeacherError: if it is another kind of network.
    """

    def __init__(
            self, network: OnnxNetwork, score_threshold: float = 0.3,
            long_side: int | None = None):
        self._network = network
        self._score_threshold = score_threshold
        self._long_side = long_side
        self.vocabulary = network.names() or COCO_NAMES
        self._layout = self._recognise()

    def _recognise(self) -> Layout:
        path = self._network.path
        rows, prototypes = sorted(self._network.outputs, key=np.ndim)
        shape, k, names = rows.shape[1:], prototypes.shape[1], len(self.vocabulary)
        layout = layout_of(shape, k, names, self._network.tried)
        if layout is None:
            whose = 'COCO, as the file names none' if self.vocabulary is COCO_NAMES else 'its own'
            raise TeacherError(
                f"the teacher '{path}' gives {shape[0]}×{shape[1]} numbers; with {k} mask "
                f'coefficients and {names} names ({whose}) one side would be {4 + names + k}, '
                f'{5 + names + k} with an objectness, or {6 + k} without overlaps: export it with '
                'the names of all its categories, or put them, one a line, into '
                f"{Path(path).with_suffix('.txt').name} beside it")
        return layout

    def _fit(self, frame: np.ndarray) -> tuple[np.ndarray, float]:
        """Resize a frame to fit the input and pad it right and below; return also the scale."""
        height, width = frame.shape[:2]
        if self._network.size:
            scale = min(self._network.size[0] / height, self._network.size[1] / width)
        else:
            scale = self._long_side / max(height, width) if self._long_side else 1
        if scale != 1:
            size = (max(1, round(width * scale)), max(1, round(height * scale)))
            frame = cv2.resize(frame, size, interpolation=cv2.INTER_LINEAR)
        size = self._network.size or [-(-side // _STRIDE) * _STRIDE for side in frame.shape[:2]]
        image = np.full((*size, 3), _PADDING, np.uint8)
        image[:frame.shape[0], :frame.shape[1]] = frame
        return image, scale

    def _run(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Run the network on H×W×3 uint8 BGR images of the input's size; return its outputs."""
        values = np.stack(images)[..., ::-1].transpose(0, 3, 1, 2).astype(np.float32, order='C')
        values /= 255
        return sorted(self._network.run(values), key=np.ndim)

    def batch_key(self, frame: np.ndarray, classes: ClassTable) -> Hashable | None:
        """Say with which others a frame may be labelled: of its size, or any if that is fixed."""
        return (self._network.size or frame.shape) if self._network.several else None

    def label_batch(
            self, frames: Sequence[np.ndarray], tables: Sequence[ClassTable]
    ) -> list[TeacherPrediction]:
        """
        Label frames.

        :param frames: H×W×3 uint8, BGR.
        :param tables: that each is labelled with.
        :raises ValueError: if a frame is something else.
        """
        for frame in frames:
            check_frame(frame)
        images, scales = zip(*map(self._fit, frames))
        return [self._labelled(*each) for each in zip(
            *self._run(images), images, scales, frames, tables)]

    def _labelled(
            self, rows: np.ndarray, prototypes: np.ndarray, image: np.ndarray, scale: float,
            frame: np.ndarray, classes: ClassTable) -> TeacherPrediction:
        """Return what the network's outputs say of a frame, which it was given as an image."""
        height, width = frame.shape[:2]
        found = self._layout.read(rows, self._score_threshold)
        found = found[suppress(found.boxes, found.scores, found.categories)
                      if self._layout.overlaps else np.argsort(-found.scores, kind='stable')]
        found = found[(found.categories >= 0) & (found.categories < len(self.vocabulary))]
        places = classes.rows(self.vocabulary)[found.categories]
        # Whole pixels, so that a mask ends where its box does.
        pixels = np.round(found.boxes / scale).astype(int)
        pixels = np.clip(pixels, 0, (width, height, width, height))
        wanted = (places != classes.background) & (pixels[:, 2:] > pixels[:, :2]).all(axis=1)
        found, places, pixels = found[wanted], places[wanted], pixels[wanted]

        logits = np.tensordot(found.coefficients, prototypes, axes=1)
        masks = np.zeros((len(pixels), height, width), bool)
        inner = [round(side * scale) for side in (height, width)]
        for mask, probability, (x1, y1, x2, y2) in zip(masks, sigmoid(logits), pixels):
            probability = cv2.resize(probability, image.shape[1::-1])[:inner[0], :inner[1]]
            if scale != 1:
                probability = cv2.resize(probability, (width, height))
            mask[y1:y2, x1:x2] = probability[y1:y2, x1:x2] > 0.5
        return TeacherPrediction(
            paint_instances((height, width), masks, places, classes.background),
            pixels.astype(np.float32), found.scores)


def sigmoid(x: np.ndarray) -> np.ndarray:
    """Compute 1 / (1 + exp(-x)) without an overflow."""
    return (np.tanh(x / 2) + 1) / 2
