"""Teachers: all kinds behind one small protocol, found by name."""

import importlib

from shadowtutor_ros.models.teachers.base import Teacher
from shadowtutor_ros.models.teachers.checks import TeacherError

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


def load_teacher(
        name: str, weights: str = 'DEFAULT', device: str = 'cpu',
        score_threshold: float | None = None) -> Teacher:
    """
    Load a teacher.

    :param name: one of ``TEACHERS``; the path of an ``.onnx`` file of a YOLO-style instance
        segmentation network; or a class of your own as ``package.module:Class``, which is given
        ``weights``, ``device`` and ``score_threshold`` as far as its signature takes them.
    :param weights: for torchvision's networks: 'DEFAULT' for torchvision's own download, or the
        path of a ``.safetensors`` file or a ``.pth`` state dict.
    :param device: where a network runs: 'cpu', 'cuda', 'cuda:1'.
    :param score_threshold: instances with a higher score count, 0 to 1; None: the teacher's own,
        0.5 for Mask R-CNN as in the paper, 0.3 for ONNX files.
    :raises TeacherError: if the teacher is unknown, or cannot be loaded with what was given. One
        line says what was got, what was wanted and what to do.
    """
    weights = weights or 'DEFAULT'
    if score_threshold is not None and not 0 <= score_threshold <= 1:
        raise TeacherError(f'score_threshold is {score_threshold}, wanted 0 to 1')
    kind, class_name = TEACHERS.get(name, (None, None))
    if kind is None and name.lower().endswith('.onnx'):
        kind, class_name = 'yolo_onnx', 'YoloOnnxTeacher'
    elif kind is None and all(name.partition(':')):
        kind, class_name = 'custom', 'CustomTeacher'
    if kind is None:
        raise TeacherError(
            f"unknown teacher '{name}': wanted one of {', '.join(TEACHERS)}; the path of an .onnx "
            'file; or a class of your own as package.module:Class')

    if kind in ('scene', 'yolo_onnx') and weights != 'DEFAULT':
        raise TeacherError(
            f"the teacher '{name}' takes no weights, but got '{weights}': leave teacher_weights "
            "at 'DEFAULT'")
    if kind in ('scene', 'semantic') and score_threshold is not None:
        raise TeacherError(
            f"the teacher '{name}' has no scores, but got the score_threshold {score_threshold}: "
            'leave it out')
    threshold = {} if score_threshold is None else {'score_threshold': score_threshold}
    make = getattr(importlib.import_module(f'{__name__}.{kind}'), class_name)
    if kind == 'scene':
        return make()
    if kind == 'yolo_onnx':
        return make(name, device, **threshold)
    return make(name, weights=weights, device=device, **threshold)
