"""Zero-shot detectors of transformers: phrases in, boxes out."""

from typing import ClassVar

import numpy as np
from PIL import Image
import torch

from shadowtutor_ros.models.teachers.hf_checkpoint import Checkpoint

Found = tuple[np.ndarray, np.ndarray, np.ndarray]


class Detector:
    """
    A zero-shot detector.

    :cvar threshold: objects with a higher score count, where nobody says another.

    :param checkpoint: of such a model.
    :param device: where it runs, in PyTorch's notation.
    :raises TeacherError: if it cannot be loaded.
    """

    threshold: ClassVar[float]

    def __init__(self, checkpoint: Checkpoint, device: str):
        transformers = checkpoint.transformers
        self._model = checkpoint.model(transformers.AutoModelForZeroShotObjectDetection, device)
        self._processor = checkpoint.processor(transformers.AutoProcessor)
        self._device = device

    def __call__(self, image: Image.Image, phrases: list[str], threshold: float) -> Found:
        """
        Find objects.

        :param image: RGB.
        :param phrases: that are looked for.
        :param threshold: objects with a higher score count, 0 to 1.
        :returns: boxes N×4 ``x1, y1, x2, y2`` in pixels, scores N, and the phrase of each.
        """
        raise NotImplementedError


class GroundingDino(Detector):
    """Grounding DINO and MM Grounding DINO."""

    threshold = 0.3

    def __init__(self, checkpoint: Checkpoint, device: str):
        super().__init__(checkpoint, device)
        self._length = self._model.config.max_text_len

    def __call__(self, image: Image.Image, phrases: list[str], threshold: float) -> Found:
        """Find objects; see :class:`Detector`."""
        found, start = [], 0
        for prompts in self._prompts(phrases):
            inputs = self._processor(
                images=image, text=' '.join(prompts), return_tensors='pt').to(self._device)
            output = self._model(**inputs)
            score, which = self._scores(
                output.logits[0], inputs['input_ids'][0], len(prompts)).max(dim=1)
            found.append((output.pred_boxes[0], score, which + start))
            start += len(prompts)
        boxes, scores, which = (torch.cat(parts).cpu().numpy() for parts in zip(*found))
        boxes = np.concatenate(
            [boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], axis=1)
        keep = scores > threshold
        return (boxes * (image.size * 2))[keep], scores[keep], which[keep]

    def _prompts(self, phrases: list[str]) -> list[list[str]]:
        """Divide phrases, each with the dot that ends it, into as many texts as they need."""
        texts, left = [], 0
        for phrase in phrases:
            prompt = ' '.join(phrase.lower().replace('.', ' ').replace('?', ' ').split()) + '.'
            tokens = len(self._processor.tokenizer(prompt)['input_ids']) - 2  # less [CLS], [SEP]
            if tokens > left or not texts:
                texts.append([])
                left = self._length - 2
            texts[-1].append(prompt)
            left -= tokens
        return texts

    def _scores(self, logits: torch.Tensor, tokens: torch.Tensor, count: int) -> torch.Tensor:
        """Return scores of N boxes for each phrase, N×count: those of its surest tokens."""
        tokens = tokens[:self._length]
        tokenizer = self._processor.tokenizer
        dot = tokenizer.convert_tokens_to_ids('.')
        phrase = (tokens == dot).cumsum(0)
        # A phrase's dot, counted with the next one, is no part of it.
        special = torch.isin(tokens, torch.tensor(
            [dot, tokenizer.cls_token_id, tokenizer.sep_token_id], device=tokens.device))
        probabilities = logits[:, :len(tokens)].sigmoid()
        return torch.stack([
            probabilities.masked_fill(special | (phrase != place), 0).amax(dim=1)
            for place in range(count)], dim=1)


class Owl(Detector):
    """OWLv2 and OWL-ViT, which read the first 14 tokens of a phrase."""

    threshold = 0.2

    def __call__(self, image: Image.Image, phrases: list[str], threshold: float) -> Found:
        """Find objects; see :class:`Detector`."""
        inputs = self._processor(
            images=image, text=[phrases], truncation=True, return_tensors='pt').to(self._device)
        found, = self._processor.post_process_grounded_object_detection(
            self._model(**inputs), threshold=threshold, target_sizes=[image.size[::-1]])
        return tuple(found[key].cpu().numpy() for key in ('boxes', 'scores', 'labels'))


DETECTORS = {
    'grounding-dino': GroundingDino, 'mm-grounding-dino': GroundingDino,
    'owlv2': Owl, 'owlvit': Owl}
