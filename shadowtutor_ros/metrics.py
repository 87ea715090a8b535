"""Mean intersection over union and its kin."""

import numpy as np
import torch

from shadowtutor_ros.classes import IGNORE

LabelMap = np.ndarray | torch.Tensor


def confusion_matrix(prediction: LabelMap, label: LabelMap, num_classes: int) -> torch.Tensor:
    """
    Count the pixels of each pair of label and prediction.

    :param prediction: integer array or tensor of any shape, values in [0, num_classes).
    :param label: the same shape; pixels that are ``IGNORE`` do not count.
    :returns: int64 tensor of shape (num_classes, num_classes) on the device of ``prediction``:
        rows are labels, columns predictions.
    :raises ValueError: if the shapes differ or a class id is out of range.
    """
    prediction = torch.as_tensor(prediction)
    label = torch.as_tensor(label, device=prediction.device)
    if prediction.shape != label.shape:
        raise ValueError(
            f'a prediction of shape {tuple(prediction.shape)} cannot be compared with a label of '
            f'shape {tuple(label.shape)}: resize one of them')
    counted = label != IGNORE
    prediction, label = prediction[counted].long(), label[counted].long()
    if prediction.numel():
        lowest = int(torch.minimum(prediction.min(), label.min()))
        highest = int(torch.maximum(prediction.max(), label.max()))
        if lowest < 0 or highest >= num_classes:
            raise ValueError(
                f'class ids from {lowest} to {highest}, but there are {num_classes} classes: '
                f'expected 0 to {num_classes - 1}')
    pairs = torch.bincount(label * num_classes + prediction, minlength=num_classes ** 2)
    return pairs.view(num_classes, num_classes)


def class_iou(confusion: torch.Tensor) -> torch.Tensor:
    """
    Compute each class's intersection over union.

    :param confusion: C×C counts, rows labels, columns predictions.
    :returns: float64 tensor of shape (C,), NaN where a class is in neither.
    """
    intersection = confusion.diagonal().double()
    return intersection / (confusion.sum(0) + confusion.sum(1) - intersection)


def mean_iou(prediction: LabelMap, label: LabelMap, num_classes: int) -> float:
    """
    Compute the mean IoU over the classes whose union is not empty, background included.

    This is the metric of the paper and of its Algorithm 1.

    :param prediction: H×W integer array or tensor, values in [0, num_classes).
    :param label: likewise; pixels that are ``IGNORE`` do not count.
    :returns: 0 to 1; NaN if no pixel counts.
    :raises ValueError: if the shapes differ or a class id is out of range.
    """
    return float(class_iou(confusion_matrix(prediction, label, num_classes)).nanmean())


def mean_iou_present(prediction: LabelMap, label: LabelMap, num_classes: int) -> float:
    """
    Compute the mean IoU over the classes that the label holds.

    Unlike :func:`mean_iou` a few stray pixels of an absent class do not count as a class at zero.
    Parameters, result and errors are the same.
    """
    confusion = confusion_matrix(prediction, label, num_classes)
    return float(class_iou(confusion)[confusion.sum(1) > 0].nanmean())
