"""Teachers from ONNX files: which of them a file is shows in its outputs."""

import numpy as np

from shadowtutor_ros.models.teachers.base import Teacher
from shadowtutor_ros.models.teachers.checks import no_scores, TeacherError
from shadowtutor_ros.models.teachers.onnx_network import OnnxNetwork
from shadowtutor_ros.models.teachers.onnx_semantic import (
    is_label_map, is_logits, OnnxSemanticTeacher)
from shadowtutor_ros.models.teachers.yolo_onnx import YoloOnnxTeacher


def load_onnx_teacher(
        path: str, device: str = 'cpu', score_threshold: float | None = None) -> Teacher:
    """
    Load a teacher from an ONNX file.

    :param path: of the file.
    :param device: see :class:`.onnx_network.OnnxNetwork`.
    :param score_threshold: of instances, 0 to 1; None: 0.3.
    :raises TeacherError: if the file cannot be read, is no network that segments images, or has no
        scores but a threshold is given.
    """
    network = OnnxNetwork(path, device)
    outputs = network.outputs
    shapes = [output.shape for output in outputs]
    ranks = sorted(map(len, shapes))
    floats = all(np.issubdtype(output.dtype, np.floating) for output in outputs)
    if floats and ranks == [3, 4] and all(shape[0] == 1 for shape in shapes):
        threshold = {} if score_threshold is None else {'score_threshold': score_threshold}
        return YoloOnnxTeacher(network, **threshold)
    if outputs and (is_logits(outputs[0]) or is_label_map(outputs[0])):
        if score_threshold is not None:
            raise no_scores(path, score_threshold)
        return OnnxSemanticTeacher(network)
    if floats and ranks and ranks[-1] == 3:
        raise TeacherError(
            f"the teacher '{path}' finds boxes without masks (its outputs have the shapes "
            f'{shapes}): export a segmentation network, such as yolo11n-seg')
    raise TeacherError(
        f"the teacher '{path}' has outputs of the shapes {shapes}; wanted boxes 1×C×N and mask "
        'prototypes 1×K×h×w, or logits 1×C×h×w, or a label map of integers 1×h×w: export a '
        'network that segments images')
