"""Teachers from transformers with categories of their own."""

import inspect

import numpy as np
import torch

from shadowtutor_ros.classes import ClassTable
from shadowtutor_ros.models.teachers.base import TeacherPrediction
from shadowtutor_ros.models.teachers.checks import no_scores
from shadowtutor_ros.models.teachers.hf_checkpoint import Checkpoint, pil_image
from shadowtutor_ros.models.teachers.label_maps import region_boxes

# Cells of 4×4 pixels of the 512 that most of these networks see along a frame's short side.
_CELLS = 512 / 4


class HfSemanticTeacher:
    """
    Semantic segmentation by transformers: SegFormer, UPerNet, BEiT, DPT and others.

    :param checkpoint: of such a model; its vocabulary is its ``id2label``.
    :param device: where it runs, in PyTorch's notation.
    :param score_threshold: refused, as there are no scores.
    :raises TeacherError: if it cannot be loaded.
    """

    def __init__(
            self, checkpoint: Checkpoint, device: str = 'cpu',
            score_threshold: float | None = None):
        if score_threshold is not None:
            raise no_scores(f'hf:{checkpoint.source}', score_threshold)
        transformers = checkpoint.transformers
        self._model = checkpoint.model(transformers.AutoModelForSemanticSegmentation, device)
        self._processor = checkpoint.processor(transformers.AutoImageProcessor)
        self._device = device
        self.vocabulary = _vocabulary(checkpoint)

    @torch.no_grad()
    def __call__(self, frame: np.ndarray, classes: ClassTable) -> TeacherPrediction:
        """
        Label a frame; its boxes are those of the label's connected regions.

        :param frame: H×W×3 uint8, BGR.
        :param classes: that it is labelled with.
        :raises ValueError: if the frame is something else.
        """
        inputs = self._processor(images=pil_image(frame), return_tensors='pt').to(self._device)
        categories, = self._processor.post_process_semantic_segmentation(
            self._model(**inputs), target_sizes=[frame.shape[:2]])
        label = classes.rows(self.vocabulary)[categories.cpu().numpy()]
        return TeacherPrediction(label, region_boxes(
            label, classes.background, (min(label.shape) / _CELLS) ** 2))


class HfSegmentsTeacher:
    """
    Instance, panoptic and universal segmentation by transformers: Mask2Former, DETR and others.

    Each segment, be it an object or a stretch of sky, has a mask and a score; what none covers is
    background.

    :param checkpoint: of such a model; its vocabulary is its ``id2label``.
    :param device: where it runs, in PyTorch's notation.
    :param score_threshold: segments with a higher score count, 0 to 1.
    :raises TeacherError: if it cannot be loaded.
    """

    def __init__(
            self, checkpoint: Checkpoint, device: str = 'cpu',
            score_threshold: float | None = None):
        transformers, kind = checkpoint.transformers, type(checkpoint.config)
        universal = transformers.AutoModelForUniversalSegmentation
        self._model = checkpoint.model(
            universal if kind in universal._model_mapping
            else transformers.AutoModelForInstanceSegmentation, device)
        # OneFormer is told its task in words.
        self._told = {}
        if checkpoint.config.model_type == 'oneformer':
            self._told = {'task_inputs': ['panoptic']}
        self._processor = checkpoint.processor(
            transformers.AutoProcessor if self._told else transformers.AutoImageProcessor)
        images = getattr(self._processor, 'image_processor', self._processor)
        self._segments = getattr(
            images, 'post_process_panoptic_segmentation',
            getattr(images, 'post_process_instance_segmentation', None))
        self._options = {'threshold': 0.5 if score_threshold is None else score_threshold}
        if 'label_ids_to_fuse' in inspect.signature(self._segments).parameters:
            self._options['label_ids_to_fuse'] = set()  # None is the same, with a warning a frame
        self._device = device
        self.vocabulary = _vocabulary(checkpoint)

    @torch.no_grad()
    def __call__(self, frame: np.ndarray, classes: ClassTable) -> TeacherPrediction:
        """
        Label a frame; its boxes are those of the segments.

        :param frame: H×W×3 uint8, BGR.
        :param classes: that it is labelled with.
        :raises ValueError: if the frame is something else.
        """
        inputs = self._processor(
            images=pil_image(frame), return_tensors='pt', **self._told).to(self._device)
        found, = self._segments(
            self._model(**inputs), target_sizes=[frame.shape[:2]], **self._options)
        segments = found['segmentation'].cpu().numpy()
        rows = classes.rows(self.vocabulary)
        label = np.full(frame.shape[:2], classes.background, np.uint8)
        boxes, scores = [], []
        for segment in found['segments_info']:
            place = rows[segment['label_id']]
            mask = segments == segment['id']
            if place == classes.background or not mask.any():
                continue
            label[mask] = place
            (top, bottom), (left, right) = (
                np.flatnonzero(mask.any(axis=axis))[[0, -1]] for axis in (1, 0))
            boxes.append((left, top, right + 1, bottom + 1))
            scores.append(segment['score'])
        return TeacherPrediction(
            label, np.array(boxes, np.float32).reshape(-1, 4), np.array(scores, np.float32))


def _vocabulary(checkpoint: Checkpoint) -> tuple[str, ...]:
    names = checkpoint.config.id2label
    return tuple(names.get(number, f'unnamed {number}') for number in range(max(names) + 1))
