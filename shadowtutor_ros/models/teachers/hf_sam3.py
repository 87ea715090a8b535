"""SAM 3 of transformers: a phrase in, all its instances in the image out."""

import numpy as np
import torch

from shadowtutor_ros.classes import ClassTable
from shadowtutor_ros.models.teachers.base import TeacherPrediction
from shadowtutor_ros.models.teachers.hf_checkpoint import Checkpoint, pil_image
from shadowtutor_ros.models.teachers.label_maps import label_instances


class Sam3Teacher:
    """
    SAM 3, prompted with the table's phrases; transformers has it from 5.0.

    :param checkpoint: of such a model.
    :param device: where it runs, in PyTorch's notation.
    :param score_threshold: instances with a higher score count, 0 to 1; None: 0.5.
    :param mask_threshold: pixels with a higher probability belong to an instance, 0 to 1.
    :raises TeacherError: if it cannot be loaded.
    """

    vocabulary = None

    def __init__(
            self, checkpoint: Checkpoint, device: str = 'cpu',
            score_threshold: float | None = None, mask_threshold: float = 0.5):
        transformers = checkpoint.transformers
        self._model = checkpoint.model(transformers.Sam3Model, device)
        self._processor = checkpoint.processor(transformers.Sam3Processor)
        self._thresholds = {
            'threshold': 0.5 if score_threshold is None else score_threshold,
            'mask_threshold': mask_threshold}
        self._device = device

    @torch.no_grad()
    def __call__(self, frame: np.ndarray, classes: ClassTable) -> TeacherPrediction:
        """
        Label a frame.

        :param frame: H×W×3 uint8, BGR.
        :param classes: whose phrases are looked for.
        :raises ValueError: if the frame is something else.
        """
        pixels = self._processor(images=pil_image(frame), return_tensors='pt')['pixel_values']
        seen = self._model.get_vision_features(pixel_values=pixels.to(self._device))
        found = {'masks': [], 'boxes': [], 'scores': [], 'places': []}
        for phrase, place in classes.phrases:
            text = self._processor(text=phrase, return_tensors='pt').to(self._device)
            instances, = self._processor.post_process_instance_segmentation(
                self._model(vision_embeds=seen, input_ids=text['input_ids'],
                            attention_mask=text['attention_mask']),
                target_sizes=[frame.shape[:2]], **self._thresholds)
            if len(instances['scores']):  # masks of none have another size
                for key in ('masks', 'boxes', 'scores'):
                    found[key].append(instances[key].cpu().numpy())
                found['places'].append(np.full(len(instances['scores']), place, np.uint8))
        if not found['places']:
            return TeacherPrediction(
                np.full(frame.shape[:2], classes.background, np.uint8),
                np.zeros((0, 4), np.float32), np.zeros(0, np.float32))
        masks, boxes, scores, places = map(np.concatenate, found.values())
        return label_instances(masks.astype(bool), boxes, scores, places, classes.background)
