"""CLIPSeg of transformers: a phrase in, where it is in the image out."""

import numpy as np
import torch
import torch.nn.functional as F

from shadowtutor_ros.classes import ClassTable
from shadowtutor_ros.models.teachers.base import TeacherPrediction
from shadowtutor_ros.models.teachers.hf_checkpoint import Checkpoint, pil_image
from shadowtutor_ros.models.teachers.label_maps import region_boxes

# Phrases at a time; each takes a pass over the image.
_BATCH = 8

# Cells of 16×16 pixels of the 352 that it sees.
_CELLS = 352 / 16


class ClipSegTeacher:
    """
    CLIPSeg, prompted with the table's phrases; a pixel is of what is most probable there.

    :param checkpoint: of such a model.
    :param device: where it runs, in PyTorch's notation.
    :param score_threshold: what is less probable is background, 0 to 1; None: 0.4.
    :raises TeacherError: if it cannot be loaded.
    """

    vocabulary = None

    def __init__(
            self, checkpoint: Checkpoint, device: str = 'cpu',
            score_threshold: float | None = None):
        transformers = checkpoint.transformers
        self._model = checkpoint.model(transformers.CLIPSegForImageSegmentation, device)
        self._processor = checkpoint.processor(transformers.AutoProcessor)
        self._threshold = 0.4 if score_threshold is None else score_threshold
        self._device = device

    @torch.no_grad()
    def __call__(self, frame: np.ndarray, classes: ClassTable) -> TeacherPrediction:
        """
        Label a frame; its boxes are those of the label's connected regions.

        :param frame: H×W×3 uint8, BGR.
        :param classes: whose phrases are looked for.
        :raises ValueError: if the frame is something else.
        """
        image = pil_image(frame)
        label = np.full(frame.shape[:2], classes.background, np.uint8)
        highest = np.full(frame.shape[:2], self._threshold, np.float32)
        for start in range(0, len(classes.phrases), _BATCH):
            phrases, places = zip(*classes.phrases[start:start + _BATCH])
            inputs = self._processor(
                text=list(phrases), images=[image] * len(phrases), padding=True, truncation=True,
                return_tensors='pt').to(self._device)
            probable, which = F.interpolate(
                self._model(**inputs).logits.sigmoid()[None], size=frame.shape[:2],
                mode='bilinear', align_corners=False)[0].max(dim=0)
            probable = probable.cpu().numpy()
            higher = probable > highest
            label[higher] = np.array(places, np.uint8)[which.cpu().numpy()[higher]]
            highest[higher] = probable[higher]
        return TeacherPrediction(label, region_boxes(
            label, classes.background, np.prod(label.shape) / _CELLS ** 2))
