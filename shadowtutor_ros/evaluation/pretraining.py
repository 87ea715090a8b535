"""Training a student from nothing, before any teacher has seen it."""

from dataclasses import dataclass
from typing import Callable

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset

from shadowtutor_ros.algorithms.student_training import weighted_cross_entropy
from shadowtutor_ros.evaluation.scenes import Scene
from shadowtutor_ros.labels import BACKGROUND, NUM_CLASSES
from shadowtutor_ros.metrics import class_iou, confusion_matrix
from shadowtutor_ros.models.inference import half_precision
from shadowtutor_ros.models.student import Student


@dataclass(frozen=True)
class PretrainSettings:
    """
    How a student is pretrained.

    :ivar steps: of the optimizer.
    :ivar batch_size: frames a step.
    :ivar learning_rate: of Adam, at its peak; it warms up and falls to nothing (one cycle).
    :ivar object_weight: weight of the loss where there is an object, background has 1.
    :ivar scales: the frames of a step are reduced to one of these shares of their size, by chance.
    :ivar seed: of the weights at the start and of the order of the frames.
    :ivar validate_every: steps from one validation to the next.
    """

    steps: int = 3000
    batch_size: int = 1
    learning_rate: float = 4e-3
    object_weight: float = 3.0
    scales: tuple[float, ...] = (0.5, 0.75, 1.0)
    seed: int = 0
    validate_every: int = 500


class SceneDataset(Dataset):
    """
    Frames of the built-in scene with their exact labels, rendered when they are asked for.

    :param looks: of the scene.
    :param seeds: a scene each, for every look.
    :param frames: of each scene, evenly spread over ``length``.
    :param size: (width, height).
    :param length: frames that a scene is looked at for.
    """

    def __init__(
            self, looks: list[str], seeds: range, frames: int, size: tuple[int, int],
            length: int = 16000):
        self._scenes = [Scene(seed, look, *size) for look in looks for seed in seeds]
        self._indices = np.linspace(0, length - 1, frames, dtype=int)

    def __len__(self) -> int:
        return len(self._scenes) * len(self._indices)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return an image (H×W×3 uint8, BGR) and its label (H×W uint8)."""
        scene, frame = divmod(index, len(self._indices))
        sample = self._scenes[scene].render(int(self._indices[frame]))
        return sample.image, sample.label


def _resize(
        image: np.ndarray, label: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray]:
    size = round(image.shape[1] * scale), round(image.shape[0] * scale)
    return (cv2.resize(image, size, interpolation=cv2.INTER_AREA),
            cv2.resize(label, size, interpolation=cv2.INTER_NEAREST))


def validate(student: Student, dataset: Dataset) -> float:
    """Compute the mean IoU over all frames of a data set together, 0 to 1."""
    confusion = torch.zeros(NUM_CLASSES, NUM_CLASSES, dtype=torch.long)
    with torch.inference_mode():
        for index in range(len(dataset)):
            image, label = dataset[index]
            logits = student(torch.from_numpy(image).permute(2, 0, 1)[None].float())
            confusion += confusion_matrix(logits[0].argmax(0), label, NUM_CLASSES)
    return float(class_iou(confusion).nanmean())


def pretrain(
        training: Dataset, validation: Dataset, settings: PretrainSettings,
        on_step: Callable[[int, float, float | None], None] = lambda step, loss, miou: None
) -> tuple[Student, float]:
    """
    Train a new student.

    :param training: yields (image, label), all of one size.
    :param validation: likewise; chooses the best student.
    :param on_step: is told the steps taken, the loss, and the validation mean IoU where there
        was a validation.
    :returns: the student with the best validation mean IoU, and that.
    """
    torch.manual_seed(settings.seed)
    student = Student()
    dtype = half_precision(torch.device('cpu'))
    optimizer = torch.optim.Adam(student.parameters(), settings.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, total_steps=settings.steps)
    random = np.random.default_rng(settings.seed)
    best, best_miou = None, -1.0
    for step in range(1, settings.steps + 1):
        scale = random.choice(settings.scales)
        samples = [_resize(*training[index], scale) for index in random.integers(
            len(training), size=settings.batch_size)]
        images = torch.from_numpy(np.stack([image for image, _ in samples]))
        labels = torch.from_numpy(np.stack([label for _, label in samples])).long()
        # Contiguous: PyTorch 2.13 and 2.15 crash on a CPU that trains this in channels_last.
        images = images.permute(0, 3, 1, 2).float().contiguous()
        if random.random() < 0.5:
            images, labels = images.flip(3), labels.flip(2)
        weights = torch.where(labels == BACKGROUND, 1.0, settings.object_weight)
        with torch.autocast('cpu', dtype, enabled=dtype != torch.float32):
            logits = student(images)
        loss = weighted_cross_entropy(logits.float(), labels, weights)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        miou = None
        if step % settings.validate_every == 0 or step == settings.steps:
            miou = validate(student, validation)
            if miou > best_miou:
                best_miou = miou
                best = {name: tensor.clone() for name, tensor in student.state_dict().items()}
        on_step(step, float(loss.detach()), miou)
    student.assign(best)
    return student.eval(), best_miou
