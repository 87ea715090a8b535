"""Teachers that find instances: torchvision's Mask R-CNN, as in the paper."""

from typing import Sequence

import numpy as np
import torch

from shadowtutor_ros.classes import ClassTable
from shadowtutor_ros.models.teachers.base import OneSize, TeacherPrediction
from shadowtutor_ros.models.teachers.label_maps import label_instances
from shadowtutor_ros.models.teachers.networks import load_network, to_tensor


class MaskRCNNTeacher(OneSize):
    """
    Torchvision's Mask R-CNN; each pixel gets the class of the surest instance that covers it.

    :param name: 'maskrcnn_resnet50_fpn' or 'maskrcnn_resnet50_fpn_v2'.
    :param weights: 'DEFAULT' or the path of a file, see :func:`.networks.load_network`.
    :param device: where it runs, in PyTorch's notation.
    :param score_threshold: instances with a higher score count, 0 to 1; the paper's is 0.5.
    :raises TeacherError: if it cannot be loaded.
    """

    def __init__(
            self, name: str, weights: str = 'DEFAULT', device: str = 'cpu',
            score_threshold: float = 0.5):
        # The threshold within the network spares the masks of what would be dropped after it.
        self._network, description = load_network(
            name, weights, device, box_score_thresh=score_threshold)
        self.vocabulary = tuple(description.meta['categories'])
        self._device = device

    @torch.no_grad()
    def label_batch(
            self, frames: Sequence[np.ndarray], tables: Sequence[ClassTable]
    ) -> list[TeacherPrediction]:
        """
        Label frames of one size; it would pad others to the largest, and see the padding.

        :param frames: H×W×3 uint8, BGR, of any size: the network resizes them as it was trained.
        :param tables: that each is labelled with.
        :raises ValueError: if a frame is something else.
        """
        # Detection networks take RGB from 0 to 1 and normalise by themselves.
        found = self._network([to_tensor(frame, self._device).float() / 255 for frame in frames])
        return [self._labelled(*each) for each in zip(found, tables)]

    def _labelled(
            self, found: dict[str, torch.Tensor], classes: ClassTable) -> TeacherPrediction:
        return label_instances(
            (found['masks'][:, 0] > 0.5).cpu().numpy(), found['boxes'].cpu().numpy(),
            found['scores'].cpu().numpy(),
            classes.rows(self.vocabulary)[found['labels'].cpu().numpy()], classes.background)
