"""Training a student from nothing, before any teacher has seen it."""

from dataclasses import asdict, dataclass, replace
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from shadowtutor_ros.algorithms.student_training import weighted_cross_entropy
from shadowtutor_ros.classes import ClassTable, LVS
from shadowtutor_ros.files import replacing
from shadowtutor_ros.metrics import class_iou, confusion_matrix
from shadowtutor_ros.models.student.base import Student, WeightsError
from shadowtutor_ros.models.student.inference import half_precision, InferenceEngine
from shadowtutor_ros.models.student.shadow import Shadow
from shadowtutor_ros.pretraining.datasets import Dataset, Sample

#: How the learning rate goes: 'decay' keeps it to the last three tenths of the steps and then
#: lowers it to nothing, so that a training can be made longer or shorter until then (Hägele et
#: al., 2024); 'milestones' lowers it to a tenth after one third and after two thirds of the steps,
#: as the first implementation does.
SCHEDULES = ('decay', 'milestones')

_WARM_UP = 200
_DECAY = 0.3

#: What is cut out of an image is at least this large, in pixels: of less the innermost feature
#: map has too few pixels to be normalised by.
MIN_CROP = 64


class CheckpointError(ValueError):
    """A checkpoint that cannot be gone on from."""


@dataclass(frozen=True)
class PretrainSettings:
    """
    How a student is pretrained.

    :ivar steps: of Adam.
    :ivar batch_size: images a step.
    :ivar learning_rate: at its peak.
    :ivar schedule: one of :data:`SCHEDULES`.
    :ivar object_weight: weight of the loss where there is an object, background has 1.
    :ivar crop: side of the square that is cut out of an image, in pixels, a multiple of 8.
    :ivar scales: least and greatest factor that an image is resized by.
    :ivar repeat_threshold: images of classes that a smaller share of the images has are drawn
        more often (repeat factor sampling; Gupta et al., CVPR 2019); 0 draws all alike.
    :ivar average: decay of the moving average of the weights, which is the student that is
        validated and kept.
    :ivar seed: of everything that is left to chance.
    :ivar validate_every: steps from one validation to the next.
    """

    steps: int = 9000
    batch_size: int = 8
    learning_rate: float = 3e-3
    schedule: str = 'decay'
    object_weight: float = 2.0
    crop: int = 256
    scales: tuple[float, float] = (0.4, 1.3)
    repeat_threshold: float = 0.1
    average: float = 0.999
    seed: int = 0
    validate_every: int = 1000

    def learning_rate_at(self, step: int) -> float:
        """
        Return the learning rate of a step.

        :param step: 0 to ``steps`` - 1.
        """
        if self.schedule == 'milestones':
            return self.learning_rate * 0.1 ** (3 * step // self.steps)
        remaining = 1 - step / self.steps
        return self.learning_rate * min((step + 1) / _WARM_UP, remaining / _DECAY, 1.0)


def repeat_factors(classes: list[set[int]], threshold: float) -> np.ndarray:
    """
    Compute how often each image is drawn, relative to one whose classes are all frequent.

    :param classes: in each image.
    :param threshold: share of the images below which a class counts as thin, 0 to 1.
    :returns: float64 (len(classes),), at least 1.
    """
    count = np.zeros(256)
    for present in classes:
        count[list(present)] += 1
    factors = np.sqrt(threshold * len(classes) / np.maximum(count, 1)).clip(min=1)
    return np.array([max([factors[one] for one in present], default=1.0) for present in classes])


def augment(sample: Sample, settings: PretrainSettings, random: np.random.Generator) -> Sample:
    """
    Resize, crop, flip and recolour an image by chance, and its label with it.

    :returns: a square of the size of the settings' crop.
    """
    image, label = sample
    low, high = np.log(settings.scales)
    scale = np.exp(random.uniform(low, high))
    # What will be seen, in pixels of the image as it is: less to resize. Where that is more than
    # there is, the image is mirrored at its edges.
    span = round(settings.crop / scale)
    margins = []
    for side in label.shape:
        before = random.integers(max(0, span - side) + 1)
        margins += [before, max(0, span - side - before)]
    image, label = (cv2.copyMakeBorder(array, *map(int, margins), cv2.BORDER_REFLECT_101)
                    for array in (image, label))
    top, left = (random.integers(side - span + 1) for side in label.shape)
    window = np.s_[top:top + span, left:left + span]
    size = settings.crop, settings.crop
    image = cv2.resize(
        image[window], size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    label = cv2.resize(label[window], size, interpolation=cv2.INTER_NEAREST_EXACT)
    if random.random() < 0.5:
        image, label = image[:, ::-1], label[:, ::-1]
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)[:, :, None].repeat(3, 2)
    saturation = random.uniform(0.5, 1.4)
    image = cv2.addWeighted(np.ascontiguousarray(image), saturation, grey, 1 - saturation, 0)
    # One curve a channel: exposure and white balance, contrast, black level.
    gain = random.uniform(0.7, 1.3) * random.uniform(0.92, 1.08, 3)
    curve = 255 * np.linspace(0, 1, 256)[:, None] ** np.exp(random.uniform(-0.3, 0.3)) * gain
    curve = np.clip(curve + random.uniform(-15, 15), 0, 255).astype(np.uint8)
    return Sample(cv2.LUT(image, curve[None]), np.ascontiguousarray(label))


def _normalised_one_by_one(student: Student) -> Student:
    """
    Let each image of a batch be normalised by its own statistics alone.

    That is how a frame is on the robot, and a key frame in distillation: alone in its batch.
    """
    for module in list(student.modules()):
        for name, norm in module.named_children():
            if isinstance(norm, nn.BatchNorm2d):
                alone = nn.InstanceNorm2d(norm.num_features, norm.eps, affine=True)
                alone.load_state_dict(norm.state_dict())
                setattr(module, name, alone)
    return student


def load_start(
        path: Path, classes: ClassTable | None = None, said: ClassTable | None = None,
        kind: type[Student] | None = None) -> Student:
    """
    Load a student to begin with, and give it the classes that are wanted.

    :param classes: that are wanted; None: those of the file.
    :param said: of the file, where it does not say; see :meth:`Student.load`.
    :param kind: another architecture, which takes the tensors that have its own's name and shape;
        None: that of the file.
    :raises WeightsError: if the weights do not fit.
    """
    start = Student.load(path, said)
    if classes is not None:
        origin = start.weights(), start.classes
        start = start.copy_with(start.with_classes(*origin, classes, origin), classes)
    if kind is None or isinstance(start, kind):
        return start
    student = kind(start.classes).eval()
    own = student.state_dict()
    fitting = {name: tensor for name, tensor in start.weights().items()
               if name in own and tensor.shape == own[name].shape}
    if not fitting:
        raise WeightsError(
            f"no tensor of '{path}', a {start.architecture}, fits into a {kind.architecture}")
    student.assign({**own, **fitting})
    return student


def validate(student: Student, dataset: Dataset) -> float:
    """Compute the mean IoU over all images of a data set, of the student's classes, 0 to 1."""
    engine, count = InferenceEngine(student), len(student.classes)
    confusion = torch.zeros(count, count, dtype=torch.long)
    for index in range(len(dataset)):
        image, label = dataset[index]
        confusion += confusion_matrix(engine(image), label, count)
    return float(class_iou(confusion).nanmean())


class Pretraining:
    """
    A training that can be left and gone on with at any step.

    What is drawn by chance in a step depends on the seed and the step alone, and so does the
    learning rate: a training that was interrupted ends with the same weights as one that was not.

    :param training: data sets that the images of a batch are drawn from.
    :param shares: of each of them in the batches; sum to 1.
    :param settings: see there.
    :param classes: of a new student, which are those of the data sets' labels.
    :param start: student to begin with instead, with its classes.
    :param kind: architecture of a new student.
    :param origin: what data and start are made from, of what JSON can hold: a checkpoint must be
        of the same.
    :ivar seconds: that were spent on it so far, by whoever drives it.
    :ivar best_miou: likewise.
    """

    def __init__(
            self, training: list[Dataset], shares: list[float], settings: PretrainSettings,
            classes: ClassTable = LVS, start: Student | None = None,
            origin: dict[str, Any] | None = None, kind: type[Student] = Shadow):
        torch.manual_seed(settings.seed)
        self.student = _normalised_one_by_one(start or kind(classes))
        table = self.student.classes
        self.settings = settings
        self.step = 0
        self.best_miou = -1.0
        self.seconds = 0.0
        self._training = training
        self._shares = shares
        # What a checkpoint must be of to be gone on from.
        self._origin = {
            **(origin or {}), **asdict(settings), 'classes': list(table.entries),
            'background': table.background, 'architecture': self.student.architecture,
            'data': [[dataset.name, len(dataset)] for dataset in training],
            'shares': [round(share, 6) for share in shares]}
        self._average = AveragedModel(
            self.student, multi_avg_fn=self._move_average, use_buffers=False)
        self._optimizer = torch.optim.Adam(self.student.parameters())
        self._dtype = half_precision(torch.device('cpu'))
        self._chances = []
        for dataset in training:
            factors = np.ones(len(dataset)) if dataset.classes is None else repeat_factors(
                dataset.classes, settings.repeat_threshold)
            self._chances.append(factors / factors.sum())

    @property
    def result(self) -> Student:
        """The average of the weights so far."""
        return self.student.copy_with(
            self._average.module.state_dict(), self.student.classes).eval()

    def _move_average(
            self, averaged: list[torch.Tensor], current: list[torch.Tensor], count: int) -> None:
        # Shorter at first, so that the random weights of the start are soon forgotten.
        decay = min(self.settings.average, (1 + int(count)) / (10 + int(count)))
        torch._foreach_lerp_(averaged, current, 1 - decay)

    def _draw(self, random: np.random.Generator) -> Sample:
        source = random.choice(len(self._training), p=self._shares)
        index = random.choice(len(self._training[source]), p=self._chances[source])
        return augment(self._training[source][int(index)], self.settings, random)

    def train_step(self) -> float:
        """Take one step of Adam; returns the loss."""
        settings = self.settings
        random = np.random.default_rng((settings.seed, self.step))
        for group in self._optimizer.param_groups:
            group['lr'] = settings.learning_rate_at(self.step)
        samples = [self._draw(random) for _ in range(settings.batch_size)]
        images, labels = (torch.from_numpy(np.stack(arrays)) for arrays in zip(*samples))
        with torch.autocast('cpu', self._dtype, enabled=self._dtype != torch.float32):
            # Contiguous: PyTorch 2.13 and 2.15 crash on a CPU that trains the front end in
            # channels_last.
            features = self.student.front(images.permute(0, 3, 1, 2).float().contiguous())
            # At the size that the network computes; enlarging would take half of the time.
            logits = self.student.coarse_logits(features)
        # A pixel of that lies amid several of the label: one by chance, so that none is preferred.
        part = settings.crop // logits.shape[2]
        top, left = random.integers(part, size=2)
        labels = labels[:, top::part, left::part].long()
        weights = torch.where(
            labels == self.student.classes.background, 1.0, settings.object_weight)
        loss = weighted_cross_entropy(logits.float(), labels, weights)
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        self._average.update_parameters(self.student)
        self.step += 1
        return float(loss.detach())

    def save(self, path: Path) -> None:
        """Write a checkpoint; a file that is there is replaced in one go."""
        with replacing(path) as new:
            torch.save({
                'origin': json.dumps(self._origin),
                'step': self.step,
                'best_miou': self.best_miou,
                'seconds': self.seconds,
                'student': self.student.state_dict(),
                'average': self._average.state_dict(),
                'optimizer': self._optimizer.state_dict(),
            }, new)

    def load(self, path: Path) -> None:
        """
        Go on from a checkpoint.

        :raises CheckpointError: if it cannot be read or is of other settings or data; ``steps``
            may differ as long as the learning rate so far is the same.
        """
        try:
            content = torch.load(path, map_location='cpu', weights_only=True)
            origin = json.loads(content['origin'])
        except Exception as error:
            raise CheckpointError(
                f"checkpoint '{path}' cannot be read ({type(error).__name__}): begin without "
                '--resume') from None
        own = json.loads(json.dumps(self._origin))
        other = [name for name in own if own[name] != origin.get(name) and name != 'steps']
        if other:
            raise CheckpointError(
                f"checkpoint '{path}' is of a training with {other[0]} "
                f'{str(origin.get(other[0]))[:60]}, not {str(own[other[0]])[:60]}: give the same, '
                'or begin without --resume')
        before = replace(self.settings, steps=origin['steps'])
        if any(before.learning_rate_at(step) != self.settings.learning_rate_at(step)
               for step in range(content['step'])):
            raise CheckpointError(
                f"checkpoint '{path}' is {content['step']} steps into a training of "
                f'{before.steps}, whose learning rate then was not that of {self.settings.steps} '
                'steps: give the same --steps, or begin without --resume')
        self.student.load_state_dict(content['student'])
        self._average.load_state_dict(content['average'])
        self._optimizer.load_state_dict(content['optimizer'])
        self.step = content['step']
        self.best_miou, self.seconds = content['best_miou'], content['seconds']
