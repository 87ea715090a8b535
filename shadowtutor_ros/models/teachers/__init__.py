"""Teachers: all kinds behind one small protocol, found by name."""

import importlib

from shadowtutor_ros.models.teachers.base import Teacher
from shadowtutor_ros.models.teachers.checks import (
    no_mask_threshold, no_scores, TeacherError)

__all__ = ['load_teacher', 'Teacher', 'TeacherError', 'TEACHERS']

#: The known names, and which module and class here makes each. A module is imported when its
#: teacher is asked for, so that nobody waits for libraries that are not used.
TEACHERS = {
    'maskrcnn_resnet50_fpn': ('instance', 'MaskRCNNTeacher'),
    'maskrcnn_resnet50_fpn_v2': ('instance', 'MaskRCNNTeacher'),
    'deeplabv3_resnet50': ('semantic', 'SemanticTeacher'),
    'deeplabv3_resnet101': ('semantic', 'SemanticTeacher'),
    'deeplabv3_mobilenet_v3_large': ('semantic', 'SemanticTeacher'),
    'fcn_resnet50': ('semantic', 'SemanticTeacher'),
    'lraspp_mobilenet_v3_large': ('semantic', 'SemanticTeacher'),
    'scene': ('scene', 'SceneTeacher'),
}


_WITHOUT_WEIGHTS = ('scene', 'onnx_teacher', 'hf')
_WITHOUT_SCORES = ('scene', 'semantic')

# What else names a teacher, for errors.
_OTHERS = (
    "the path of an .onnx file; 'hf:' with a model of Hugging Face transformers, its id or a "
    "folder, or 'hf:detector+segmenter'; or a class of your own as package.module:Class")


def load_teacher(
        name: str, weights: str = 'DEFAULT', device: str = 'cpu',
        score_threshold: float | None = None, mask_threshold: float | None = None) -> Teacher:
    """
    Load a teacher; docs/teachers.md describes them.

    :param name: one of ``TEACHERS``; the path of an ``.onnx`` file of a YOLO-style instance
        segmentation network or of semantic segmentation; ``hf:`` with the id or the folder of a
        model of Hugging Face transformers that segments, by its own categories or by prompts, or
        with those of a zero-shot detector and a SAM as ``hf:detector+segmenter``; or a class of
        your own as ``package.module:Class``, which is given ``weights``, ``device``,
        ``score_threshold`` and ``mask_threshold`` as far as its signature takes them.
    :param weights: for torchvision's networks: 'DEFAULT' for torchvision's own download, or the
        path of a ``.safetensors`` file or a ``.pth`` state dict.
    :param device: where a network runs: 'cpu', 'cuda', 'cuda:1'.
    :param score_threshold: instances with a higher score count, 0 to 1; None: the teacher's own,
        0.5 for Mask R-CNN as in the paper, 0.3 for ONNX files, those of :mod:`.hf` for the rest.
    :param mask_threshold: of prompted teachers with masks: pixels with a higher probability belong
        to an object, between 0 and 1; None: 0.5.
    :raises TeacherError: if the teacher is unknown, or cannot be loaded with what was given. One
        line says what was got, what was wanted and what to do.
    """
    weights = weights or 'DEFAULT'
    if score_threshold is not None and not 0 <= score_threshold <= 1:
        raise TeacherError(f'score_threshold is {score_threshold}, wanted 0 to 1')
    if mask_threshold is not None and not 0 < mask_threshold < 1:
        raise TeacherError(f'mask_threshold is {mask_threshold}, wanted between 0 and 1')
    kind, maker = _kind_of(name)
    if kind in _WITHOUT_WEIGHTS and weights != 'DEFAULT':
        raise TeacherError(
            f"the teacher '{name}' takes no weights, but got '{weights}': leave teacher_weights "
            "at 'DEFAULT'")
    if kind in _WITHOUT_SCORES and score_threshold is not None:
        raise no_scores(name, score_threshold)
    if kind not in ('hf', 'custom') and mask_threshold is not None:
        raise no_mask_threshold(name, mask_threshold)
    make = getattr(importlib.import_module(f'{__name__}.{kind}'), maker)
    if kind == 'scene':
        return make()
    given = {'score_threshold': score_threshold, 'mask_threshold': mask_threshold}
    thresholds = {key: value for key, value in given.items() if value is not None}
    if kind in _WITHOUT_WEIGHTS:
        return make(name, device, **thresholds)
    return make(name, weights=weights, device=device, **thresholds)


def _kind_of(name: str) -> tuple[str, str]:
    """Return the module that makes a teacher, and what in it."""
    if name in TEACHERS:
        return TEACHERS[name]
    if name.startswith('hf:') and name != 'hf:':
        return 'hf', 'load_hf_teacher'
    if name.lower().endswith('.onnx'):
        return 'onnx_teacher', 'load_onnx_teacher'
    if all(name.partition(':')):
        return 'custom', 'CustomTeacher'
    raise TeacherError(
        f"unknown teacher '{name}': wanted one of {', '.join(TEACHERS)}; {_OTHERS}")
