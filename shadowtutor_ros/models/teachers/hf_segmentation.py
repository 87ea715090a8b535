"""Teachers from transformers with categories of their own."""

import inspect
from typing import Any, Sequence

import numpy as np
import torch

from shadowtutor_ros.classes import ClassTable
from shadowtutor_ros.models.teachers.base import OneSize, TeacherPrediction
from shadowtutor_ros.models.teachers.checks import no_scores
from shadowtutor_ros.models.teachers.hf_checkpoint import Checkpoint, pil_image
from shadowtutor_ros.models.teachers.label_maps import (
    label_instances, mask_boxes, region_boxes)

# Cells of 4×4 pixels of the 512 that most of these networks see along a frame's short side.
_CELLS = 512 / 4


class HfSemanticTeacher(OneSize):
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
    def label_batch(
            self, frames: Sequence[np.ndarray], tables: Sequence[ClassTable]
    ) -> list[TeacherPrediction]:
        """
        Label frames of one size; their boxes are those of the labels' connected regions.

        :param frames: H×W×3 uint8, BGR.
        :param tables: that each is labelled with.
        :raises ValueError: if a frame is something else.
        """
        inputs = self._processor(
            images=list(map(pil_image, frames)), return_tensors='pt').to(self._device)
        found = self._processor.post_process_semantic_segmentation(
            self._model(**inputs), target_sizes=[frame.shape[:2] for frame in frames])
        labels = [classes.rows(self.vocabulary)[categories.cpu().numpy()]
                  for categories, classes in zip(found, tables)]
        return [TeacherPrediction(label, region_boxes(
            label, classes.background, (min(label.shape) / _CELLS) ** 2))
            for label, classes in zip(labels, tables)]


class HfSegmentsTeacher(OneSize):
    """
    Instance, panoptic and universal segmentation by transformers: Mask2Former, DETR and others.

    Each segment, be it an object or a stretch of sky, has a mask and a score; each pixel gets the
    class of the surest one that covers it, or is background.

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
        self._segments, self._options = _post_processing(images)
        self._options['threshold'] = 0.5 if score_threshold is None else score_threshold
        self._device = device
        self.vocabulary = _vocabulary(checkpoint)

    @torch.no_grad()
    def label_batch(
            self, frames: Sequence[np.ndarray], tables: Sequence[ClassTable]
    ) -> list[TeacherPrediction]:
        """
        Label frames of one size; their boxes are those of the segments.

        :param frames: H×W×3 uint8, BGR.
        :param tables: that each is labelled with.
        :raises ValueError: if a frame is something else.
        """
        told = {key: words * len(frames) for key, words in self._told.items()}
        inputs = self._processor(
            images=list(map(pil_image, frames)), return_tensors='pt', **told).to(self._device)
        found = self._segments(
            self._model(**inputs), target_sizes=[frame.shape[:2] for frame in frames],
            **self._options)
        return [self._labelled(one, frame, classes)
                for one, frame, classes in zip(found, frames, tables)]

    def _labelled(
            self, found: dict[str, Any], frame: np.ndarray,
            classes: ClassTable) -> TeacherPrediction:
        segments = found['segments_info']
        masks = found['segmentation'].cpu().numpy()
        if masks.ndim == 2:  # one map of the segments' numbers
            masks = masks == np.array([one['id'] for one in segments]).reshape(-1, 1, 1)
        masks = masks.reshape(-1, *frame.shape[:2]).astype(bool)
        seen = masks.any(axis=(1, 2))
        scores = np.array([one['score'] for one in segments], np.float32)
        places = classes.rows(self.vocabulary)[[one['label_id'] for one in segments]]
        return label_instances(
            masks[seen], mask_boxes(masks[seen]), scores[seen], places[seen], classes.background)


def _post_processing(images: Any) -> tuple[Any, dict[str, Any]]:
    """Return what makes segments of a model's output, and its options."""
    instances = getattr(images, 'post_process_instance_segmentation', None)
    if instances and 'return_binary_maps' in inspect.signature(instances).parameters:
        # Masks as they are. Those of the panoptic function, where there is this one, grow until
        # they fill the image, which is wrong for models of things alone.
        return instances, {'return_binary_maps': True}
    panoptic = images.post_process_panoptic_segmentation
    if 'label_ids_to_fuse' in inspect.signature(panoptic).parameters:
        return panoptic, {'label_ids_to_fuse': set()}  # None is the same, with a warning a frame
    return panoptic, {}


def _vocabulary(checkpoint: Checkpoint) -> tuple[str, ...]:
    names = checkpoint.config.id2label
    return tuple(names.get(number, f'unnamed {number}') for number in range(max(names) + 1))
