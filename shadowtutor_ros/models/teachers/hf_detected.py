"""Prompted teachers of two models: a zero-shot detector finds boxes, a SAM the masks in them."""

from math import log

import numpy as np
from PIL import Image
import torch

from shadowtutor_ros.classes import ClassTable
from shadowtutor_ros.models.teachers.base import TeacherPrediction
from shadowtutor_ros.models.teachers.hf_checkpoint import Checkpoint, pil_image
from shadowtutor_ros.models.teachers.hf_detectors import DETECTORS
from shadowtutor_ros.models.teachers.label_maps import label_instances, suppress

#: Families of SAM, and which classes of transformers load them.
SEGMENTERS = {
    'sam': ('SamModel', 'SamProcessor'), 'sam2': ('Sam2Model', 'Sam2Processor'),
    'sam2_video': ('Sam2Model', 'Sam2Processor')}

# As many as Mask R-CNN gives at most; each takes a mask of the frame's size.
_MAX_OBJECTS = 100


class DetectedTeacher:
    """
    A zero-shot detector, prompted with the table's phrases, and a SAM, prompted with its boxes.

    :param detector: of one of the models of ``DETECTORS``.
    :param segmenter: of one of the models of ``SEGMENTERS``.
    :param device: where both run, in PyTorch's notation.
    :param score_threshold: objects with a higher score count, 0 to 1; None: the detector's own.
    :param mask_threshold: pixels with a higher probability belong to an object, between 0 and 1.
    :raises TeacherError: if one cannot be loaded.
    """

    vocabulary = None

    def __init__(
            self, detector: Checkpoint, segmenter: Checkpoint, device: str = 'cpu',
            score_threshold: float | None = None, mask_threshold: float = 0.5):
        self._detect = DETECTORS[detector.config.model_type](detector, device)
        self._score_threshold = (
            self._detect.threshold if score_threshold is None else score_threshold)
        self._mask_logit = log(mask_threshold / (1 - mask_threshold))
        model, processor = (
            getattr(segmenter.transformers, name)
            for name in SEGMENTERS[segmenter.config.model_type])
        self._model = segmenter.model(model, device)
        self._processor = segmenter.processor(processor)
        self._device = device

    @torch.no_grad()
    def __call__(self, frame: np.ndarray, classes: ClassTable) -> TeacherPrediction:
        """
        Label a frame.

        :param frame: H×W×3 uint8, BGR.
        :param classes: whose phrases are looked for.
        :raises ValueError: if the frame is something else.
        """
        image = pil_image(frame)
        height, width = frame.shape[:2]
        phrases, places = zip(*classes.phrases)
        boxes, scores, which = self._detect(image, list(phrases), self._score_threshold)
        boxes = boxes.clip(0, (width, height, width, height))
        places = np.array(places, np.uint8)[which]
        keep = suppress(boxes, scores, places)
        keep = keep[(boxes[keep, 2:] > boxes[keep, :2]).all(axis=1)][:_MAX_OBJECTS]
        return label_instances(
            self._masks(image, boxes[keep]), boxes[keep], scores[keep], places[keep],
            classes.background)

    def _masks(self, image: Image.Image, boxes: np.ndarray) -> np.ndarray:
        """Return the mask of the object in each box, N×H×W bool."""
        if not len(boxes):
            return np.zeros((0, *image.size[::-1]), bool)
        inputs = self._processor(
            images=image, input_boxes=[boxes.tolist()], return_tensors='pt').to(self._device)
        sizes = {key: inputs.pop(key) for key in ('original_sizes', 'reshaped_input_sizes')
                 if key in inputs}
        output = self._model(**inputs, multimask_output=False)
        masks, = self._processor.post_process_masks(
            output.pred_masks.cpu(), mask_threshold=self._mask_logit, **sizes)
        return masks[:, 0].numpy()
