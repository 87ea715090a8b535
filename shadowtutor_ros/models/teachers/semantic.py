"""Teachers that segment without instances: torchvision's DeepLabV3, FCN and LR-ASPP."""

from typing import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from shadowtutor_ros.classes import ClassTable
from shadowtutor_ros.models.teachers.base import OneSize, TeacherPrediction
from shadowtutor_ros.models.teachers.label_maps import region_boxes
from shadowtutor_ros.models.teachers.networks import load_network, to_tensor

# Cells of 8×8 pixels, the finest that these networks tell apart, along the 520 pixels that their
# transforms resize a frame's short side to.
_CELLS = 520 / 8


class SemanticTeacher(OneSize):
    """
    One of torchvision's semantic segmentation networks, with the categories of Pascal VOC.

    Of the paper's eight object classes VOC lacks elephants and giraffes, and trucks.

    :param name: of torchvision's model builder.
    :param weights: 'DEFAULT' or the path of a file, see :func:`.networks.load_network`.
    :param device: where it runs, in PyTorch's notation.
    :raises TeacherError: if it cannot be loaded.
    """

    def __init__(self, name: str, weights: str = 'DEFAULT', device: str = 'cpu'):
        self._network, description = load_network(name, weights, device)
        self._transform = description.transforms(antialias=True)
        self.vocabulary = tuple(description.meta['categories'])
        self._device = device

    @torch.no_grad()
    def label_batch(
            self, frames: Sequence[np.ndarray], tables: Sequence[ClassTable]
    ) -> list[TeacherPrediction]:
        """
        Label frames of one size; their boxes are those of the labels' connected regions.

        :param frames: H×W×3 uint8, BGR, of any size: resized as torchvision's transforms do.
        :param tables: that each is labelled with.
        :raises ValueError: if a frame is something else.
        """
        images = [self._transform(to_tensor(frame, self._device)) for frame in frames]
        logits = self._network(torch.stack(images))['out']
        # One after another: at the size of a frame the logits of each take some 100 MB.
        return [self._labelled(*each, frames[0].shape[:2]) for each in zip(logits, tables)]

    def _labelled(
            self, logits: torch.Tensor, classes: ClassTable,
            size: tuple[int, int]) -> TeacherPrediction:
        logits = F.interpolate(logits[None], size=size, mode='bilinear', align_corners=False)
        # VOC has fewer than 256 categories.
        label = classes.rows(self.vocabulary)[logits[0].argmax(0).byte().cpu().numpy()]
        # What is smaller than a cell of the network's output is a fringe of the upsampling.
        return TeacherPrediction(label, region_boxes(
            label, classes.background, (min(label.shape) / _CELLS) ** 2))
