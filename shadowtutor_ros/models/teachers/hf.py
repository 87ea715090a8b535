"""Teachers from Hugging Face transformers: which of them a name means."""

from pathlib import Path

from shadowtutor_ros.models.teachers.base import Teacher
from shadowtutor_ros.models.teachers.checks import no_mask_threshold, TeacherError
from shadowtutor_ros.models.teachers.hf_checkpoint import Checkpoint
from shadowtutor_ros.models.teachers.hf_clipseg import ClipSegTeacher
from shadowtutor_ros.models.teachers.hf_detected import DetectedTeacher, DETECTORS, SEGMENTERS
from shadowtutor_ros.models.teachers.hf_sam3 import Sam3Teacher
from shadowtutor_ros.models.teachers.hf_segmentation import HfSegmentsTeacher, HfSemanticTeacher

#: A pair that anybody may download; both are under Apache-2.0.
DETECTOR, SEGMENTER = 'IDEA-Research/grounding-dino-tiny', 'facebook/sam2.1-hiera-tiny'


def load_hf_teacher(
        name: str, device: str = 'cpu', score_threshold: float | None = None,
        mask_threshold: float | None = None) -> Teacher:
    """
    Load a teacher from transformers.

    :param name: ``hf:`` with the id or the folder of a model, or with two and a plus between them.
    :param device: where it runs, in PyTorch's notation.
    :param score_threshold: what has a higher score counts, 0 to 1; None: 0.5 for instances,
        panoptic segments and SAM 3, 0.3 for Grounding DINO, 0.2 for OWL, 0.4 for CLIPSeg. There is
        none for semantic segmentation.
    :param mask_threshold: pixels with a higher probability belong to an object, between 0 and 1,
        for a detector with a SAM and for SAM 3; None: 0.5.
    :raises TeacherError: if it cannot be loaded, or is no model that segments images.
    """
    source = name.partition(':')[2]
    detector, plus, segmenter = source.partition('+')
    of_masks = {} if mask_threshold is None else {'mask_threshold': mask_threshold}
    if plus and not Path(source).expanduser().is_dir():
        return _load_pair(name, Checkpoint(detector), Checkpoint(segmenter), device,
                          score_threshold, **of_masks)
    checkpoint = Checkpoint(source)
    kind = checkpoint.config.model_type
    if kind in DETECTORS:
        raise TeacherError(
            f"the teacher '{name}' finds boxes without masks: add a SAM, such as "
            f"'{name}+{SEGMENTER}'")
    if kind in SEGMENTERS:
        raise TeacherError(
            f"the teacher '{name}' takes no words: put a zero-shot detector before it, such as "
            f"'hf:{DETECTOR}+{source}'")
    teacher = _teacher_of(name, checkpoint)
    if of_masks and teacher is not Sam3Teacher:
        raise no_mask_threshold(name, mask_threshold)
    return teacher(checkpoint, device, score_threshold, **of_masks)


def _load_pair(
        name: str, detector: Checkpoint, segmenter: Checkpoint, device: str,
        score_threshold: float | None, **of_masks: float) -> Teacher:
    for checkpoint, known, what, proposal in (
            (detector, DETECTORS, 'zero-shot detector', DETECTOR),
            (segmenter, SEGMENTERS, 'SAM', SEGMENTER)):
        if checkpoint.config.model_type not in known:
            raise TeacherError(
                f"'{checkpoint.source}' in the teacher '{name}' is of the kind "
                f"'{checkpoint.config.model_type}', wanted a {what} ({', '.join(known)}), such as "
                f'{proposal}')
    return DetectedTeacher(detector, segmenter, device, score_threshold, **of_masks)


def _teacher_of(name: str, checkpoint: Checkpoint):
    kind, transformers = checkpoint.config.model_type, checkpoint.transformers
    if kind == 'clipseg':
        return ClipSegTeacher
    if kind in ('sam3', 'sam3_video'):
        return Sam3Teacher
    for auto, teacher in (
            (transformers.AutoModelForSemanticSegmentation, HfSemanticTeacher),
            (transformers.AutoModelForUniversalSegmentation, HfSegmentsTeacher),
            (transformers.AutoModelForInstanceSegmentation, HfSegmentsTeacher)):
        if type(checkpoint.config) in auto._model_mapping:
            return teacher
    raise TeacherError(
        f"the teacher '{name}' is a model of the kind '{kind}', which does not segment images: "
        'choose one for semantic, instance, panoptic or universal segmentation, CLIPSeg or SAM 3, '
        f"or a pair such as 'hf:{DETECTOR}+{SEGMENTER}'")
