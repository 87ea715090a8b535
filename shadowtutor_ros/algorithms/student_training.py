"""Algorithm 1 of the paper: training on a key frame, with thresholded early stopping."""

from dataclasses import dataclass, field
import math
from typing import Callable

import numpy as np
import torch
import torch.nn.functional as F

from shadowtutor_ros.algorithms.striding import THRESHOLD
from shadowtutor_ros.labels import IGNORE
from shadowtutor_ros.metrics import mean_iou
from shadowtutor_ros.models.student import Student
from shadowtutor_ros.models.teachers.base import TeacherPrediction

#: How much the boxes of objects grow for the loss, as a share of their width and height: half of
#: it on each side, which is what the first implementation's code does.
BOX_GROWTH = 0.15


@dataclass
class TrainingSettings:
    """
    How the student is trained on a key frame; the defaults are the paper's.

    :ivar threshold: THRESHOLD, mean IoU above which the student is good enough, 0 to 1.
    :ivar max_updates: MAX_UPDATES, training steps at most on one key frame, at least 0.
    :ivar learning_rate: of Adam, above 0.
    :ivar object_weight: weight of the loss inside the boxes of objects, at least 1.
    :ivar scope: 'partial' trains the back end, 'full' everything.
    """

    threshold: float = THRESHOLD
    max_updates: int = 8
    learning_rate: float = 0.01
    object_weight: float = 5.0
    scope: str = 'partial'


@dataclass
class TrainingResult:
    """
    What Algorithm 1 did.

    :ivar metric_before: mean IoU before the first step, 0 to 1.
    :ivar metric_after: mean IoU of the weights that were kept, 0 to 1.
    :ivar steps: training steps taken.
    :ivar changed: whether the weights differ from those before.
    :ivar losses: the loss before each step.
    :ivar metrics: the mean IoU after each step.
    """

    metric_before: float
    metric_after: float
    steps: int = 0
    changed: bool = False
    losses: list[float] = field(default_factory=list)
    metrics: list[float] = field(default_factory=list)


def loss_weights(
        boxes: np.ndarray, shape: tuple[int, int], object_weight: float) -> np.ndarray:
    """
    Weigh the pixels of a frame: more inside the (grown) boxes of objects.

    :param boxes: N×4, ``x1, y1, x2, y2`` in pixels.
    :param shape: (H, W) of the frame.
    :param object_weight: weight inside the boxes; 1 outside.
    :returns: H×W float32.
    """
    height, width = shape
    weights = np.ones(shape, np.float32)
    for x1, y1, x2, y2 in np.asarray(boxes, dtype=np.float32):
        margin_x, margin_y = BOX_GROWTH / 2 * (x2 - x1), BOX_GROWTH / 2 * (y2 - y1)
        left, right = np.clip([x1 - margin_x, x2 + margin_x], 0, width).astype(int)
        top, bottom = np.clip([y1 - margin_y, y2 + margin_y], 0, height).astype(int)
        weights[top:bottom + 1, left:right + 1] = object_weight
    return weights


def weighted_cross_entropy(
        logits: torch.Tensor, label: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """
    Compute the loss of Algorithm 1: weighted cross entropy, the mean over all pixels.

    :param logits: N×C×H×W.
    :param label: N×H×W int64 class ids; pixels that are ``IGNORE`` add nothing.
    :param weights: N×H×W.
    """
    losses = F.cross_entropy(logits, label, reduction='none', ignore_index=IGNORE)
    return (losses * weights).mean()


class StudentTrainer:
    """
    Algorithm 1 with what it keeps from key frame to key frame: the student and Adam's state.

    :param student: is trained in place; only the tensors of the settings' scope change.
    :param settings: are read at each call, so that they can change at run time.
    """

    def __init__(self, student: Student, settings: TrainingSettings):
        self.student = student
        self.settings = settings
        self._scope = None
        self._optimizer = None

    def _prepare(self) -> None:
        """Make the optimizer for the scope in force; a new scope starts a new one."""
        if self._scope != self.settings.scope:
            trained = self.student.tensors(self.settings.scope)
            for name, parameter in self.student.named_parameters():
                parameter.requires_grad_(name in trained)
            self._optimizer = torch.optim.Adam(list(trained.values()))
            self._scope = self.settings.scope
        for group in self._optimizer.param_groups:
            group['lr'] = self.settings.learning_rate

    def forget(self) -> None:
        """Forget the optimizer's state, after the weights were set from outside."""
        self._scope = None

    def __call__(
            self, frame: np.ndarray, teaching: TeacherPrediction,
            on_step: Callable[[], None] = lambda: None) -> TrainingResult:
        """
        Train the student on a key frame until its metric is above THRESHOLD (Algorithm 1).

        At the end the student holds the weights of the best metric seen, the untrained included,
        and the optimizer the state that goes with them.

        :param frame: H×W×3 uint8, BGR.
        :param teaching: the teacher's label (H×W) and boxes for it.
        :param on_step: called after every training step.
        """
        self._prepare()
        settings, student = self.settings, self.student
        device = next(student.parameters()).device
        size = frame.shape[:2]
        # PyTorch warns of arrays that are read-only, as those over messages may be.
        x = torch.from_numpy(np.require(frame, requirements=('C', 'W'))).to(device)
        x = x.permute(2, 0, 1)[None].float()
        # A permuted HWC image is a channels_last batch of one, the fast layout; but PyTorch 2.13
        # and 2.15 crashed on a CPU when they trained the front end in it.
        partial = settings.scope == 'partial'
        student.to(memory_format=torch.channels_last if partial else torch.contiguous_format)
        if not partial:
            x = x.contiguous()
        label = torch.from_numpy(teaching.label).to(device)
        weights = torch.from_numpy(
            loss_weights(teaching.boxes, size, settings.object_weight)).to(device)
        label_batch, weights_batch = label.long()[None], weights[None]

        if partial:
            with torch.no_grad():
                features = student.front(x)

            def forward() -> torch.Tensor:
                return student.back(features, size)
        else:
            def forward() -> torch.Tensor:
                return student(x)

        def metric_of(logits: torch.Tensor) -> float:
            return mean_iou(logits.detach()[0].argmax(0), label, student.num_classes)

        logits = forward()
        metric = metric_of(logits)
        if math.isnan(metric):
            # No pixel counts, so nothing can be learnt or said: at THRESHOLD the stride stays.
            return TrainingResult(settings.threshold, settings.threshold)
        result = TrainingResult(metric, metric)
        if metric > settings.threshold or settings.max_updates == 0:
            return result

        best = _Snapshot(student.tensors(settings.scope), self._optimizer)
        for step in range(settings.max_updates):
            loss = weighted_cross_entropy(logits, label_batch, weights_batch)
            self._optimizer.zero_grad()
            loss.backward()
            self._optimizer.step()
            logits = forward()
            metric = metric_of(logits)
            result.steps = step + 1
            result.losses.append(float(loss.detach()))
            result.metrics.append(metric)
            on_step()
            if metric > result.metric_after:
                result.metric_after = metric
                result.changed = True
                if metric > settings.threshold or result.steps == settings.max_updates:
                    return result
                best.take()
        best.restore()
        return result


class _Snapshot:
    """A copy of trained tensors and of their optimizer's state, in memory taken once."""

    def __init__(self, tensors: dict[str, torch.Tensor], optimizer: torch.optim.Optimizer):
        self._tensors = list(tensors.values())
        self._optimizer = optimizer
        self._copies: list[torch.Tensor] = []
        self.take()

    def _live(self) -> list[torch.Tensor]:
        state = self._optimizer.state
        return self._tensors + [
            value for tensor in self._tensors for value in state.get(tensor, {}).values()]

    @torch.no_grad()
    def take(self) -> None:
        live = self._live()
        if len(live) != len(self._copies):
            self._copies = [torch.empty_like(tensor) for tensor in live]
        for copy, tensor in zip(self._copies, live):
            copy.copy_(tensor)

    @torch.no_grad()
    def restore(self) -> None:
        if len(self._copies) == len(self._tensors):
            # Taken before the optimizer's first step: its state then was none.
            self._optimizer.state.clear()
        for copy, tensor in zip(self._copies, self._live()):
            tensor.copy_(copy)
