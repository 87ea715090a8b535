"""Algorithm 1 of the paper: training on a key frame, with thresholded early stopping."""

from dataclasses import dataclass, field
import math
from typing import Any, Callable, Iterable

import numpy as np
import torch
import torch.nn.functional as F

from shadowtutor_ros.algorithms.augmentation import variant
from shadowtutor_ros.algorithms.selection import most_effective
from shadowtutor_ros.classes import IGNORE
from shadowtutor_ros.memory import keep_freed_memory
from shadowtutor_ros.metrics import mean_iou
from shadowtutor_ros.models.student.base import Student, Weights
from shadowtutor_ros.models.teachers.base import TeacherPrediction
from shadowtutor_ros.wire.key_frame import decode_image, decode_label, encode_label

#: How much the boxes of objects grow for the loss, as a share of their width and height: half of
#: it on each side, which is what the first implementation's code does.
BOX_GROWTH = 0.15

#: What may be lost of the gain on a key frame where changes of little effect are undone: of the
#: gain itself, and of mean IoU. A gain of less does not count.
_LOST, _COARSE = 0.1, 0.01

#: Which of the key frames remembered are replayed: 'random' draws anew at every step, 'newest'
#: takes the last before this one.
REPLAY_CHOICES = ('random', 'newest')


@dataclass
class TrainingSettings:
    """
    How the student is trained on a key frame; docs/evaluation.md shows what each default gives.

    :ivar threshold: THRESHOLD, mean IoU above which the student is good enough, so that its next
        key frame may wait longer, 0 to 1; 0.8 in the paper.
    :ivar training_target: mean IoU above which no (further) step is taken, where that is more than
        THRESHOLD, 0 to 1; the paper's trains up to THRESHOLD alone. What is learnt beyond costs no
        byte, and lasts longer.
    :ivar max_updates: MAX_UPDATES, training steps at most on one key frame, at least 0; 8 in the
        paper.
    :ivar learning_rate: of Adam, above 0; 0.01 in the first implementation.
    :ivar object_weight: weight of the loss inside the boxes of objects, at least 1; 5 in the first
        implementation.
    :ivar scope: which blocks are trained: one of ``models.student.base.SCOPES``, or names of
        blocks separated by commas; 'partial' in the paper.
    :ivar replay: earlier key frames that every step trains on too; the paper has none.
    :ivar replay_choice: which, one of :data:`REPLAY_CHOICES`.
    :ivar replay_memory: key frames that are remembered, at least 1. With a frozen encoder one of
        1280×720 takes 6 MB: its features (5.1 MB) and its label; else 3.7 MB, frame and label.
    :ivar replay_megabytes: that they may take, above 0; the oldest are forgotten first, and the
        last is kept in any case.
    :ivar variants: of a key frame, moved, scaled and mirrored, each step but the first trains on
        one of them too, in turn; 0: none, as in the paper. Where MAX_UPDATES steps without them
        take longer than there is time there are none: more steps gain more.
    :ivar seen_classes: whether the student may choose from those classes alone that the teacher
        saw in the key frames remembered; of others no logits are computed. The paper's chooses
        from all.
    :ivar always_offered: names of classes that it may choose from in any case, where the robot's
        table has them.
    :ivar share: share of the weights in scope that a key frame changes, above 0 to 1: those whose
        change brings its loss down most; the paper's changes all. Few carry nearly all that is
        gained, and what is sent is as much less. Where they do not it is doubled, as often as that
        takes.
    :ivar plain: whether to compute layer by layer, in the order of the first implementation's
        arithmetic; several times slower. Training on hard frames is chaotic, so that what is
        rounded differently ends elsewhere.
    :ivar seed: of the draws.
    """

    threshold: float = 0.9
    training_target: float = 0.95
    max_updates: int = 20
    learning_rate: float = 0.003
    object_weight: float = 5.0
    scope: str = 'decoder'
    replay: int = 1
    replay_choice: str = 'random'
    replay_memory: int = 16
    replay_megabytes: float = 128.0
    variants: int = 4
    seen_classes: bool = True
    always_offered: tuple[str, ...] = ('person',)
    share: float = 0.05
    plain: bool = False
    seed: int = 0


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


@dataclass(frozen=True, eq=False)
class _Sample:
    """
    A labelled key frame, ready to be trained on.

    :ivar x: what the trained part of the network is fed with: the encoder's features where it is
        frozen, else the frame, 1×3×H×W uint8.
    :ivar label: 1×H×W uint8, classes by their places in the table.
    :ivar boxes: N×4, of the teacher.
    :ivar classes: places that the label holds, ``IGNORE`` aside.
    :ivar image: the frame as it came, its format and bytes; empty where that is not known.
    """

    x: tuple[torch.Tensor, ...] | torch.Tensor
    label: torch.Tensor
    boxes: np.ndarray
    classes: frozenset[int]
    image: tuple[str, bytes]

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return tuple(self.label.shape[1:])

    @property
    def nbytes(self) -> int:
        """Bytes of memory that it takes."""
        parts = self.x if isinstance(self.x, tuple) else (self.x,)
        return sum(part.nbytes for part in (*parts, self.label)) + self.boxes.nbytes + len(
            self.image[1])


@dataclass(frozen=True, eq=False)
class KeptKeyFrame:
    """
    A labelled key frame as it is kept: in a hundredth of the bytes that it is trained on in.

    :ivar image: the frame as it came, its format and bytes.
    :ivar label: of the teacher, as :func:`.wire.key_frame.encode_label` makes it.
    :ivar boxes: N×4 float32, of the teacher.
    """

    image: tuple[str, bytes]
    label: bytes
    boxes: np.ndarray

    @property
    def nbytes(self) -> int:
        """Bytes of memory that it takes."""
        return len(self.image[1]) + len(self.label) + self.boxes.nbytes


def kept_tensors(kept: Iterable[KeptKeyFrame]) -> Weights:
    """Return key frames as tensors by name; their formats have to be kept beside."""
    tensors: Weights = {}
    for number, one in enumerate(kept):
        for key, data in (('image', one.image[1]), ('label', one.label)):
            tensors[f'memory.{number}.{key}'] = torch.frombuffer(
                bytearray(data), dtype=torch.uint8)
        if len(one.boxes):
            tensors[f'memory.{number}.boxes'] = torch.from_numpy(one.boxes)
    return tensors


def kept_of(tensors: Weights, formats: Iterable[str]) -> list[KeptKeyFrame]:
    """
    Undo :func:`kept_tensors`.

    :param formats: of the images.
    :raises KeyError, TypeError: if they are something else.
    """
    return [
        KeptKeyFrame(
            (image_format, tensors[f'memory.{number}.image'].numpy().tobytes()),
            tensors[f'memory.{number}.label'].numpy().tobytes(),
            tensors.get(f'memory.{number}.boxes', torch.zeros(0, 4)).numpy())
        for number, image_format in enumerate(formats)]


class StudentTrainer:
    """
    Algorithm 1 with what it keeps from key frame to key frame: Adam's state, recent key frames.

    :param student: is trained in place; only the tensors of the settings' scope change.
    :param settings: are read at each call, so that they can change at run time.
    :param learnt: places of the classes that were trained before; None: all. No other is offered
        that was never seen.
    """

    def __init__(
            self, student: Student, settings: TrainingSettings,
            learnt: Iterable[int] | None = None):
        keep_freed_memory()
        self.student = student
        self.settings = settings
        self._learnt_before = frozenset(range(len(student.classes)) if learnt is None else learnt)
        self.forget()

    def forget(self) -> None:
        """Forget the optimizer's state and all key frames, after the weights were set anew."""
        self._prepared_for: tuple[str, bool] | None = None
        self._optimizer: torch.optim.Adam | None = None
        self._keeps_features = False
        self._memory: list[_Sample] = []
        self._learnt = set(self._learnt_before)
        self._random = np.random.default_rng(self.settings.seed)

    def set_back(self, weights: dict[str, torch.Tensor]) -> None:
        """
        Go on from other weights, such as those that the robot runs.

        :param weights: all of them, by name.
        """
        own = self.student.state_dict()
        if self._keeps_features and not all(
                torch.equal(own[name], weights[name].to(own[name].device)) for name in own
                if name.split('.')[0] in self.student.encoder):
            # What is remembered of key frames are features of the encoder that was.
            self.forget()
        self.student.load_state_dict(weights)

    def _prepare(self) -> None:
        """Make the optimizer for the scope in force; another scope, or ``plain``, starts anew."""
        scope, plain = self.settings.scope, self.settings.plain
        if self._prepared_for != (scope, plain):
            self.forget()
            trained = self.student.tensors(scope)
            for name, parameter in self.student.named_parameters():
                parameter.requires_grad_(name in trained)
            self._optimizer = torch.optim.Adam(list(trained.values()))
            self._prepared_for = scope, plain
            self._keeps_features = not plain and not (
                set(self.student.blocks_of(scope)) & set(self.student.encoder))
            # PyTorch 2.13 and 2.15 crashed on a CPU when they trained the encoder in the faster
            # channels_last.
            self.student.to(memory_format=torch.channels_last if self._keeps_features
                            else torch.contiguous_format)
        for group in self._optimizer.param_groups:
            group['lr'] = self.settings.learning_rate

    def _make_sample(
            self, frame: np.ndarray, teaching: TeacherPrediction,
            image: tuple[str, bytes] = ('', b'')) -> _Sample:
        device = next(self.student.parameters()).device
        # PyTorch warns of arrays that are read-only, as those over messages may be.
        x = torch.from_numpy(np.require(frame, requirements=('C', 'W'))).to(device)
        x = x.permute(2, 0, 1)[None]
        if self._keeps_features:
            with torch.no_grad():
                x = self.student.front(x.float())
        classes = frozenset(np.unique(teaching.label).tolist()) - {IGNORE}
        if teaching.label.shape != frame.shape[:2] or not all(
                label < len(self.student.classes) for label in classes):
            raise ValueError(
                f'the teacher gave a label of shape {teaching.label.shape} with the classes '
                f'{sorted(classes)} for a frame of shape {frame.shape}: wanted its height and '
                f'width, and classes below {len(self.student.classes)}')
        return _Sample(
            x, torch.from_numpy(teaching.label)[None].to(device), teaching.boxes, classes, image)

    def _logits(self, sample: _Sample) -> torch.Tensor:
        """Compute the logits of the classes that are trained, in their order."""
        # In float32 on GPUs too: the network is so small that casts cost more than they save.
        if self._keeps_features:
            return self.student.back(sample.x, sample.size, self._rows)
        x = sample.x.float().contiguous()
        if self.settings.plain:
            logits = self.student.plain_logits(x)
            whole = len(self._rows) == logits.shape[1]
            return logits if whole else logits[:, list(self._rows)]
        return self.student.back(self.student.front(x), sample.size, self._rows)

    def _loss(self, sample: _Sample, logits: torch.Tensor) -> torch.Tensor:
        weights = torch.from_numpy(
            loss_weights(sample.boxes, sample.size, self.settings.object_weight))
        label = sample.label.long()
        if logits.shape[1] < len(self.student.classes):
            order = torch.full((IGNORE + 1,), IGNORE, device=label.device)
            order[list(self._rows)] = torch.arange(len(self._rows), device=label.device)
            label = order[label]
        return weighted_cross_entropy(logits, label, weights[None].to(logits.device))

    def _metric(self, sample: _Sample, logits: torch.Tensor) -> float:
        logits, rows, classes = logits.detach()[0], self._rows, self.classes
        if len(classes) < len(rows):  # the robot chooses from some alone
            logits = logits[[rows.index(place) for place in classes]]
        prediction = logits.argmax(0)
        if len(classes) < len(self.student.classes):
            prediction = torch.tensor(classes, device=logits.device)[prediction]
        return mean_iou(prediction, sample.label[0], len(self.student.classes))

    @property
    def classes(self) -> tuple[int, ...]:
        """Classes on offer, by their places, ascending: all, or those that were seen of late."""
        table = self.student.classes
        seen = set().union(*(sample.classes for sample in self._memory))
        if not self.settings.seen_classes or not seen:
            return tuple(range(len(table)))
        always = map(table.find, self.settings.always_offered)
        return tuple(sorted(seen.union(place for place in always if place in self._learnt)))

    @property
    def memory_bytes(self) -> int:
        """Bytes of the key frames that are remembered."""
        return sum(sample.nbytes for sample in self._memory)

    @property
    def _rows(self) -> tuple[int, ...]:
        """
        Places of the classes that are trained, ascending: on offer, or learnt before.

        Those that were learnt may be on offer again at any time, when the teacher goes, say; left
        out of the loss they would claim what was never shown to them.
        """
        return tuple(sorted(self._learnt.union(self.classes)))

    @torch.no_grad()
    def metric(self) -> float:
        """Compute the mean IoU of the student as it is now on the last key frame, 0 to 1."""
        return self._metric(self._memory[-1], self._logits(self._memory[-1]))

    @torch.no_grad()
    def measure(
            self, frame: np.ndarray, teaching: TeacherPrediction,
            weights: dict[str, torch.Tensor]) -> float:
        """
        Compute the mean IoU of other weights on a key frame, as if it were trained on.

        :param frame, teaching: as for :meth:`__call__`.
        :param weights: all of them, by name; the student is left as it was.
        :returns: 0 to 1; THRESHOLD where no pixel counts.
        """
        self._prepare()
        own = self.student.weights()
        earlier = self._memory
        try:
            self.student.load_state_dict(weights)
            sample = self._make_sample(frame, teaching)
            self._remember(sample)
            metric = self._metric(sample, self._logits(sample))
        finally:
            self.student.load_state_dict(own)
            self._memory = earlier
        return self.settings.threshold if math.isnan(metric) else metric

    def _remember(self, sample: _Sample) -> None:
        """Put a key frame into the memory, and forget the oldest where that is full."""
        settings = self.settings
        memory = [*self._memory, sample][-max(1, settings.replay_memory):]
        while len(memory) > 1 and (
                sum(one.nbytes for one in memory) > 1e6 * settings.replay_megabytes):
            del memory[0]
        self._memory = memory
        self._learnt |= sample.classes

    def __call__(
            self, frame: np.ndarray, teaching: TeacherPrediction,
            on_step: Callable[[], None] = lambda: None,
            time_left: Callable[[], float] = lambda: math.inf,
            image: tuple[str, bytes] = ('', b'')) -> TrainingResult:
        """
        Train the student on a key frame until its metric is above the target (Algorithm 1).

        At the end the student holds the weights of the best metric seen, the untrained included,
        and the optimizer the state that goes with them. Of their changes the share that is set
        stays.

        :param frame: H×W×3 uint8, BGR.
        :param teaching: the teacher's label (H×W) and boxes for it.
        :param on_step: called after every training step.
        :param time_left: gives the seconds in which a step may begin; later ones may where none
            has helped yet, and the metric is not above THRESHOLD.
        :param image: the frame as it came, to be kept with the key frame: its format and bytes.
        :raises ValueError: if the label does not fit. Whatever a step or ``on_step`` raises, the
            student holds the best weights seen, and the key frame is forgotten.
        """
        self._prepare()
        sample = self._make_sample(frame, teaching, image)
        earlier = self._memory
        self._remember(sample)
        try:
            return self._train(
                sample, earlier, on_step, time_left,
                lambda: self._make_sample(*variant(frame, teaching, self._random)))
        except BaseException:
            # Out of memory, say. A key frame that is too large must not be replayed either.
            self._memory = earlier
            raise

    def _train(
            self, sample: _Sample, earlier: list[_Sample], on_step: Callable[[], None],
            time_left: Callable[[], float], make_variant: Callable[[], _Sample]
    ) -> TrainingResult:
        """
        Train on a key frame that is remembered.

        :param earlier: those that may be replayed.
        :param make_variant: makes another variant of the key frame.
        """
        settings = self.settings
        logits = self._logits(sample)
        metric = self._metric(sample, logits)
        if math.isnan(metric):
            # No pixel counts, so nothing can be learnt or said: at THRESHOLD the stride stays.
            return TrainingResult(settings.threshold, settings.threshold)
        result = TrainingResult(metric, metric)
        target = max(settings.threshold, settings.training_target)
        if metric > target or settings.max_updates == 0:
            return result

        trained = self.student.tensors(settings.scope)
        best = _Snapshot(trained, self._optimizer)
        before = {name: tensor.detach().clone() for name, tensor in trained.items()}
        left_out = self._rows_left_out()
        variants: list[_Sample] = []
        allowed = time_left()
        quick = False  # whether there is time for variants; the first step will show
        try:
            for step in range(settings.max_updates):
                loss = self._loss(sample, logits)
                others = self._replayed(earlier)
                if settings.variants and quick:
                    if len(variants) < settings.variants:
                        variants.append(make_variant())
                    others.append(variants[(step - 1) % settings.variants])
                part = 1 / (1 + len(others))
                self._optimizer.zero_grad()
                (part * loss).backward()
                # One by one: each frame is normalised by its own statistics, as the robot does.
                for other in others:
                    (part * self._loss(other, self._logits(other))).backward()
                self._step(left_out)
                logits = self._logits(sample)
                metric = self._metric(sample, logits)
                result.steps = step + 1
                result.losses.append(float(loss.detach()))
                result.metrics.append(metric)
                on_step()
                if metric > result.metric_after:
                    result.metric_after = metric
                    result.changed = True
                    best.take()
                    if metric > target:
                        break
                left = time_left()
                # Adam's first step may help nothing, or less than is lost where the weights are
                # coded; and so it would be the next time.
                if left <= 0 and (result.metric_before > settings.threshold
                                  or result.metric_after - result.metric_before > _COARSE):
                    break
                if step == 0:
                    quick = left == math.inf or (
                        (allowed - left) * (settings.max_updates - 1) <= left)
        finally:
            best.restore()
        if result.changed and settings.share < 1:
            self._keep_share(before, result)
        return result

    @torch.no_grad()
    def _keep_share(self, before: Weights, result: TrainingResult) -> None:
        """
        Undo the changes of least effect on the last key frame.

        :param before: the trained tensors as they were, by name.
        :param result: of what was trained; gets the metric of what is left.
        """
        trained = self.student.tensors(self.settings.scope)
        after = {name: tensor.clone() for name, tensor in trained.items()}
        gradients = {name: self._optimizer.state[tensor]['exp_avg']
                     for name, tensor in trained.items()}
        best = result.metric_after
        most_lost = max(_COARSE, _LOST * (best - result.metric_before))
        share = self.settings.share
        while True:
            for name, tensor in most_effective(before, after, gradients, share).items():
                trained[name].copy_(tensor)
            result.metric_after = self.metric()
            if share == 1 or best - result.metric_after <= most_lost:
                break
            # A small network, or one that has all to learn, needs more of its changes.
            share = min(1.0, 2 * share)
        if result.metric_after <= result.metric_before:
            for name, tensor in before.items():
                trained[name].copy_(tensor)
            result.metric_after, result.changed = result.metric_before, False

    def _rows_left_out(self) -> dict[str, torch.Tensor]:
        """Return the rows of the head that no step may move, by tensor: those not trained."""
        rows = self._rows
        left = [place for place in range(len(self.student.classes)) if place not in rows]
        return {name: torch.tensor(left, device=tensor.device)
                for name, tensor in self.student.state_dict().items()
                if left and self.student.has_rows(name)}

    @torch.no_grad()
    def _step(self, left_out: dict[str, torch.Tensor]) -> None:
        """
        Let Adam take a step.

        :param left_out: rows of tensors, by name, that stay as they are. Their gradients are zero,
            but Adam would go on moving them by those that came before.
        """
        own = self.student.state_dict()
        rows = [(own[name], left, own[name][left]) for name, left in left_out.items()]
        self._optimizer.step()
        for tensor, left, before in rows:
            tensor[left] = before

    # --- what is kept for later, or on a disk ----------------------------------------------------

    def kept(self) -> list[KeptKeyFrame]:
        """Return the key frames that are remembered, the oldest first, as they came."""
        return [KeptKeyFrame(sample.image, encode_label(sample.label[0].cpu().numpy()),
                             np.ascontiguousarray(sample.boxes, np.float32))
                for sample in self._memory if sample.image[1]]

    def recall(self, kept: Iterable[KeptKeyFrame]) -> None:
        """
        Remember key frames of :meth:`kept` in place of those that are.

        :raises KeyFrameError, ValueError: if one cannot be read, or does not fit.
        """
        self._prepare()
        self._memory = []
        for one in kept:
            frame = decode_image(*one.image)
            label = decode_label(one.label, frame.shape[:2])
            self._remember(self._make_sample(
                frame, TeacherPrediction(label, one.boxes), one.image))

    def export(self) -> tuple[Weights, dict[str, Any]]:
        """
        Return all that is kept from key frame to key frame, but for the weights.

        Key frames that did not come as an image are left out.

        :returns: tensors by name, and what JSON can hold.
        """
        tensors: Weights = {}
        if self._optimizer is not None:
            for name, tensor in self.student.tensors(self._prepared_for[0]).items():
                for key, value in self._optimizer.state.get(tensor, {}).items():
                    tensors[f'adam.{name}.{key}'] = value
        kept = self.kept()
        tensors.update(kept_tensors(kept))
        return tensors, {
            'prepared_for': self._prepared_for, 'learnt': sorted(self._learnt),
            'learnt_before': sorted(self._learnt_before),
            'formats': [one.image[0] for one in kept],
            'random': self._random.bit_generator.state}

    def restore(self, tensors: Weights, meta: dict[str, Any]) -> None:
        """
        Go on from what :meth:`export` has returned, with the weights that the student has.

        Where another scope is set by now the optimizer and the key frames begin anew.

        :raises KeyError, TypeError, ValueError, RuntimeError: if it is something else; the trainer
            is then of no use any more.
        """
        self._learnt_before = frozenset(map(int, meta['learnt_before']))
        self.forget()
        self._prepare()
        if list(self._prepared_for) != list(meta['prepared_for'] or ()):
            return
        for name, tensor in self.student.tensors(self.settings.scope).items():
            state = {key.rpartition('.')[2]: value for key, value in tensors.items()
                     if key.startswith(f'adam.{name}.')}
            if state:
                if {key: value.shape for key, value in state.items()} != {
                        'step': (), 'exp_avg': tensor.shape, 'exp_avg_sq': tensor.shape}:
                    raise ValueError(f'what Adam has of {name} does not fit')
                # Adam wants its steps on the CPU.
                self._optimizer.state[tensor] = {
                    key: value if key == 'step' else value.to(tensor.device).contiguous(
                        memory_format=_format_of(tensor)) for key, value in state.items()}
        self.recall(kept_of(tensors, meta['formats']))
        self._learnt = set(map(int, meta['learnt']))
        self._random.bit_generator.state = meta['random']

    def _replayed(self, earlier: list[_Sample]) -> list[_Sample]:
        """Choose the earlier key frames that a step trains on too."""
        count = min(len(earlier), self.settings.replay)
        if not count:
            return []
        if self.settings.replay_choice == 'newest':
            return earlier[-count:]
        return [earlier[index] for index in self._random.choice(
            len(earlier), count, replace=False)]


def _format_of(tensor: torch.Tensor) -> torch.memory_format:
    """Return how the values of a tensor lie, which those of its Adam state follow."""
    channels_last = tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if channels_last else torch.contiguous_format


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
