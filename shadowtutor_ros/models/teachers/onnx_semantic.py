"""Teachers from ONNX files: semantic segmentation, as logits or as a label map."""

from collections.abc import Hashable
from pathlib import Path
from typing import Sequence

import cv2
import numpy as np

from shadowtutor_ros.classes import ClassTable, IGNORE
from shadowtutor_ros.models.teachers.base import OneSize, TeacherPrediction
from shadowtutor_ros.models.teachers.checks import check_frame, TeacherError
from shadowtutor_ros.models.teachers.label_maps import region_boxes
from shadowtutor_ros.models.teachers.onnx_network import OnnxNetwork

# Of ImageNet's pixels from 0 to 1, RGB: what encoders of such networks are trained with.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

_STRIDE = 32  # what is not fixed by the file is a multiple of it


class OnnxSemanticTeacher(OneSize):
    """
    A semantic segmentation network in an ONNX file.

    Its input is 1×3×H×W, RGB from 0 to 1, less a mean and divided by a deviation: ImageNet's,
    unless the file's metadata says others as ``mean`` and ``std`` (0 and 1 for an export that
    normalises within). A frame is resized to the size that the file fixes, else to the nearest
    multiples of 32. Its output is 1×C×h×w logits, the first where there are several; or a label
    map of integers, 1×h×w or 1×1×h×w, where what has no name does not count. The categories must
    be named by the file, or beside it.

    :param network: with such outputs.
    :raises TeacherError: if it is another kind of network, or its categories have no names.
    """

    def __init__(self, network: OnnxNetwork):
        self._network = network
        names = network.names()
        stem = Path(network.path).with_suffix('')
        if names is None:
            raise TeacherError(
                f"the teacher '{network.path}' does not name its categories: put their names, one "
                f'a line, into {stem.name}.txt beside it, or an id2label into {stem.name}.json')
        output = network.outputs[0]
        if is_logits(output) and output.shape[1] != len(names):
            raise TeacherError(
                f"the teacher '{network.path}' has {output.shape[1]} categories, but "
                f'{len(names)} names: name each, the background too')
        self.vocabulary = names
        self._mean = self._channels('mean', _MEAN)
        self._std = self._channels('std', _STD)

    def _channels(self, key: str, default: tuple[float, ...]) -> np.ndarray:
        given = self._network.description.get(key, default)
        try:
            values = np.array(given, np.float32).reshape(3, 1, 1)
        except (TypeError, ValueError):
            values = np.full(3, np.nan)
        if not np.isfinite(values).all() or (key == 'std' and (values <= 0).any()):
            raise TeacherError(
                f"the teacher '{self._network.path}' has the {key} {str(given)[:60]!r}; wanted "
                'three numbers, of red, green and blue from 0 to 1')
        return values

    def batch_key(self, frame: np.ndarray, classes: ClassTable) -> Hashable | None:
        """Say with which others a frame may be labelled: those that are brought to one size."""
        return self._size(frame) if self._network.several else None

    def label_batch(
            self, frames: Sequence[np.ndarray], tables: Sequence[ClassTable]
    ) -> list[TeacherPrediction]:
        """
        Label frames; their boxes are those of the labels' connected regions.

        :param frames: H×W×3 uint8, BGR, of any size.
        :param tables: that each is labelled with.
        :raises ValueError: if a frame is something else.
        """
        output = self._network.run(np.stack(list(map(self._values, frames))))[0]
        return [self._labelled(output[place:place + 1], *each)
                for place, each in enumerate(zip(frames, tables))]

    def _size(self, frame: np.ndarray) -> tuple[int, ...]:
        """Return the size, (H, W), that a frame is brought to."""
        return self._network.size or tuple(
            max(1, round(side / _STRIDE)) * _STRIDE for side in frame.shape[:2])

    def _values(self, frame: np.ndarray) -> np.ndarray:
        """Return what the network is given of a frame, 3×H×W float32."""
        check_frame(frame)
        image = cv2.resize(frame, self._size(frame)[::-1], interpolation=cv2.INTER_LINEAR)
        values = image[:, :, ::-1].transpose(2, 0, 1).astype(np.float32) / 255
        return (values - self._mean) / self._std

    def _labelled(
            self, output: np.ndarray, frame: np.ndarray,
            classes: ClassTable) -> TeacherPrediction:
        """Return what an output says of a frame, 1×…."""
        if is_logits(output):
            categories = _surest(output[0], frame.shape[:2])
        else:
            categories = cv2.resize(
                output.reshape(output.shape[-2:]).clip(-1, len(self.vocabulary)).astype(np.int32),
                frame.shape[1::-1], interpolation=cv2.INTER_NEAREST)
        places = np.append(classes.rows(self.vocabulary), np.uint8(IGNORE))
        # What is smaller than a cell of the network's output is a fringe of the resizing.
        cell = frame.shape[0] * frame.shape[1] / np.prod(output.shape[-2:])
        label = places[categories]
        return TeacherPrediction(label, region_boxes(label, classes.background, cell))


def is_logits(output: np.ndarray) -> bool:
    """Return whether an output is logits of several categories, 1×C×h×w."""
    return (output.ndim == 4 and output.shape[1] > 1
            and np.issubdtype(output.dtype, np.floating))


def is_label_map(output: np.ndarray) -> bool:
    """Return whether an output is a label map of integers, 1×h×w or 1×1×h×w."""
    return np.issubdtype(output.dtype, np.integer) and (
        output.ndim == 3 or output.ndim == 4 and output.shape[1] == 1)


def _surest(logits: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize logits, C×h×w, and return the category of the highest at each of H×W pixels."""
    # One after another: all at the size of a frame would be some 100 MB.
    categories = np.zeros(size, np.int32)
    highest = np.full(size, -np.inf, np.float32)
    for category, of_one in enumerate(logits):
        of_one = cv2.resize(of_one, size[::-1], interpolation=cv2.INTER_LINEAR)
        higher = of_one > highest
        np.copyto(categories, category, where=higher)
        np.copyto(highest, of_one, where=higher)
    return categories
