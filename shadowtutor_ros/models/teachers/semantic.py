"""Teachers that segment without instances: torchvision's DeepLabV3, FCN and LR-ASPP."""

import numpy as np
import torch
import torch.nn.functional as F

from shadowtutor_ros.classes import ClassTable
from shadowtutor_ros.models.teachers.base import TeacherPrediction
from shadowtutor_ros.models.teachers.label_maps import region_boxes
from shadowtutor_ros.models.teachers.networks import load_network, to_tensor

# Cells of 8×8 pixels, the finest that these networks tell apart, along the 520 pixels that their
# transforms resize a frame's short side to.
_CELLS = 520 / 8


class SemanticTeacher:
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
    def __call__(self, frame: np.ndarray, classes: ClassTable) -> TeacherPrediction:
        """
        Label a frame; its boxes are those of the label's connected regions.

        :param frame: H×W×3 uint8, BGR, of any size: it is resized as torchvision's transforms do.
        :param classes: that it is labelled with.
        :raises ValueError: if the frame is something else.
        """
        image = self._transform(to_tensor(frame, self._device))
        logits = self._network(image[None])['out']
        logits = F.interpolate(
            logits, size=frame.shape[:2], mode='bilinear', align_corners=False)
        # VOC has fewer than 256 categories.
        label = classes.rows(self.vocabulary)[logits[0].argmax(0).byte().cpu().numpy()]
        # What is smaller than a cell of the network's output is a fringe of the upsampling.
        return TeacherPrediction(label, region_boxes(
            label, classes.background, (min(label.shape) / _CELLS) ** 2))
