"""Algorithm 4 of the paper: the robot's loop, which infers every frame and never waits."""

from dataclasses import dataclass, field
import secrets
from typing import Callable

import numpy as np
import torch

from shadowtutor_ros.algorithms.drift import SceneDrift, SceneWatch
from shadowtutor_ros.algorithms.striding import MAX_STRIDE, next_stride
from shadowtutor_ros.labels import NUM_CLASSES
from shadowtutor_ros.models.inference import InferenceEngine
from shadowtutor_ros.wire.key_frame import KeyFrame
from shadowtutor_ros.wire.weight_update import Scope, unpack, UpdateRejected, WeightUpdate

#: What to do when the update has not come MIN_STRIDE frames after its key frame: go on with the
#: weights at hand, or wait for it as the paper's client does.
LATE_UPDATE = ('continue', 'wait')

#: Longest update_timeout of a node, in seconds. The paper's client, which has none, waits longer,
#: and its messages do not expire.
LONGEST_TIMEOUT = 600.0

#: Longest time in seconds that a teacher's answer may state.
_LONGEST = 1e6


@dataclass
class ClientSettings:
    """
    How the client strides; docs/evaluation.md shows what the defaults give.

    :ivar min_stride: MIN_STRIDE, in frames, at least 1; 8 in the paper.
    :ivar max_stride: MAX_STRIDE, in frames, at least ``min_stride``; 64 in the paper.
    :ivar late_update: one of :data:`LATE_UPDATE`.
    :ivar update_timeout: seconds after which a key frame's update counts as lost.
    :ivar stride_rate: frames a second that strides are counted in, whatever the camera's rate; 0
        counts the frames themselves, as the paper does.
    :ivar drift: distance of the scene from the last key frame (see :class:`SceneDrift`) above
        which a frame becomes a key frame early; 0 for never.
    :ivar still: distance up to which the scene counts as the one that the student has mastered:
        its next key frame may wait for ``still_stride``, or for whoever enters (see
        :class:`SceneWatch`); 0 for never, and then nobody looks for them either.
    :ivar still_stride: frames between the key frames of a still scene.
    """

    min_stride: int = 10
    max_stride: int = MAX_STRIDE
    late_update: str = 'continue'
    update_timeout: float = 10.0
    stride_rate: float = 0.0
    drift: float = 0.45
    still: float = 0.08
    still_stride: int = 512


def analytic_strides(settings: ClientSettings) -> list[dict[str, int]]:
    """
    Return the strides that the analytic model's bounds have to be taken over.

    :param settings: key frames by drift may come sooner than MIN_STRIDE, those of a still scene
        later than MAX_STRIDE.
    """
    low = {settings.min_stride, 1} if settings.drift else {settings.min_stride}
    high = {settings.max_stride}
    if settings.still:
        high.add(max(settings.max_stride, settings.still_stride))
    return [{'min_stride': least, 'max_stride': most} for least in low for most in high]


@dataclass
class ClientCounters:
    """What happened in a session, counted."""

    frames: int = 0
    key_frames_sent: int = 0
    updates_applied: int = 0
    updates_lost: int = 0
    updates_rejected: dict[str, int] = field(default_factory=dict)

    def reject(self, rejected: UpdateRejected) -> None:
        """Count an update that was rejected, by its reason."""
        count = self.updates_rejected.get(rejected.reason, 0)
        self.updates_rejected[rejected.reason] = count + 1


class Client:
    """
    The robot's side of a session, driven from one thread: frames, updates and the time go in.

    :param engine: infers the frames; updates swap its weights.
    :param send: is handed each key frame, before its inference, and must not block.
    :param settings: are read at each call, so that they can change at run time.
    :param session_id: 0 to 2^64 − 1; random where it is not given.
    """

    def __init__(
            self, engine: InferenceEngine, send: Callable[[KeyFrame], None],
            settings: ClientSettings, session_id: int | None = None):
        self.engine = engine
        self.settings = settings
        self.session_id = secrets.randbits(64) if session_id is None else session_id
        #: Whether there is a teacher to send key frames to; the driver may clear and set it.
        self.connected = True
        self.counters = ClientCounters()
        self.weights_version = 0
        self.stride = settings.min_stride
        self.frames_since_key_frame = 0
        #: The last update that was applied, and the seconds from its key frame to it.
        self.last_update: WeightUpdate | None = None
        self.round_trip: float | None = None
        #: Whether no update was applied since one was overdue.
        self.overdue = False
        self._send = send
        self._key_frame_time = 0.0
        self._drift = SceneDrift()
        self._watch = SceneWatch()
        #: The last key frame because of the watch, until its answer is weighed, and how many
        #: frames have to lie between the next one and the early one before it.
        self._alarm: int | None = None
        self._alarm_stride = settings.min_stride
        self._frames_since_early = settings.min_stride
        self._model_id = engine.student.model_id
        self._weights_checksum = engine.student.weights_checksum()
        #: Unanswered key frames: number → time sent. The last of them is awaited until it is
        #: overdue; a late answer is still welcome if it fits the weights in use.
        self._unanswered: dict[int, float] = {}
        self._awaited: int | None = None

    @property
    def awaiting_update(self) -> bool:
        """Whether a key frame's update is still to come and not overdue."""
        return self._awaited is not None

    def on_frame(self, frame: np.ndarray, now: float) -> np.ndarray:
        """
        Infer a frame, and send it first if it is a key frame (Algorithm 4).

        The first frame is a key frame, and so is each that is ``stride`` frames after the last.
        While an update is awaited no further key frame is sent: it would only queue up behind.

        :param frame: H×W×3 uint8, BGR; must not be written to later.
        :param now: seconds, on any clock that does not jump back.
        :returns: H×W uint8 class ids.
        """
        self._give_up_overdue(now)
        may_send = self.connected and not self.awaiting_update
        is_key_frame = may_send and self._is_due(now)
        if is_key_frame:
            self._send_key_frame(frame, now)
        mask = self.engine(frame)
        before = self._drift.distance
        self._drift.update(self.engine, frame, is_reference=is_key_frame)
        if self.settings.still:
            self._watch.update(frame, now)
            if is_key_frame:
                self._watch.refer()
        has_entered = self._has_entered()
        if may_send and not is_key_frame and (self._has_drifted(before) or has_entered):
            # Known only now that its features are; its own mask is out of reach anyway.
            self._send_key_frame(frame, now)
            self._frames_since_early = 0
            if has_entered:
                self._alarm = self._awaited
            self._drift.refer()
            self._watch.refer()
        self._frames_since_early += 1
        self.frames_since_key_frame += 1
        self.counters.frames += 1
        return mask

    def on_update(self, update: WeightUpdate, now: float) -> None:
        """
        Apply an update, all or nothing, and compute the next stride; between two frames only.

        :param update: not trusted.
        :param now: seconds, on the clock of :meth:`on_frame`.
        :raises UpdateRejected: if it must not be applied; it is counted, and the weights are as
            they were.
        """
        number = update.key_frame_number
        try:
            tensors = self._check(update)
        except UpdateRejected as rejected:
            self.counters.reject(rejected)
            if rejected.reason not in ('session', 'key_frame'):
                # The teacher did answer; the next key frame tells it what is really run here.
                del self._unanswered[number]
                if number == self._awaited:
                    self._awaited = None
                    self.stride = self.settings.min_stride
            raise
        self.engine.restrict(update.classes)
        if tensors:
            self.engine.swap(tensors)
            self.weights_version = update.new_version
            self._weights_checksum = update.weights_checksum
        self.round_trip = now - self._unanswered[number]
        self._unanswered = {n: sent for n, sent in self._unanswered.items() if n > number}
        if number == self._awaited:
            self._awaited = None
        self.overdue = False
        self.last_update = update
        self.counters.updates_applied += 1
        self.stride = next_stride(
            update.metric_after, self.stride, threshold=update.threshold,
            min_stride=self.settings.min_stride, max_stride=self.settings.max_stride)

    def wait_until(self) -> float | None:
        """
        Tell until when the driver has to wait for an update before the next frame.

        :returns: the time at which to go on without it, on the clock of :meth:`on_frame`; None
            where there is nothing to wait for. It is the paper's wait at MIN_STRIDE.
        """
        if (self.settings.late_update == 'wait' and self.awaiting_update
                and self.frames_since_key_frame == self.settings.min_stride):
            return self._unanswered[self._awaited] + self.settings.update_timeout
        return None

    def _is_due(self, now: float) -> bool:
        """Tell whether a key frame is due by the stride (Algorithm 2)."""
        if not self.counters.key_frames_sent:
            return True
        settings = self.settings
        # The limits may have changed since the stride was computed.
        stride = max(settings.min_stride, min(settings.max_stride, self.stride))
        if self._drift.distance < settings.still and self._has_mastered and (
                not self._watch.changed or self._is_familiar):
            stride = max(stride, settings.still_stride)
        elapsed = (settings.stride_rate * (now - self._key_frame_time) if settings.stride_rate
                   else self.frames_since_key_frame)
        return elapsed >= stride

    @property
    def _has_mastered(self) -> bool:
        """Whether the student was good enough on the last key frame."""
        update = self.last_update
        return (update is not None and not self._unanswered
                and update.metric_after > update.threshold)

    def _has_drifted(self, before: float) -> bool:
        """
        Tell whether the scene has drifted too far from the last key frame to wait for the next.

        Once is a flash, twice in a row is another scene. Early key frames are MIN_STRIDE apart.

        :param before: the distance of the frame before.
        """
        limit = self.settings.drift
        return (0 < limit < min(before, self._drift.distance)
                and self._frames_since_early >= self.settings.min_stride)

    @property
    def _is_familiar(self) -> bool:
        """Whether the student was good enough on the last key frame before it was trained."""
        update = self.last_update
        return update is not None and update.metric_before > update.threshold

    def _has_entered(self) -> bool:
        """
        Tell whether somebody has entered a still scene.

        Where there was nothing to learn from that, the next such key frame has to be twice as far
        away, up to MAX_STRIDE: a scene that is always on the move costs no more than that.
        """
        settings = self.settings
        answered = self.last_update.key_frame_number if self.last_update else 0
        if self._alarm is not None and answered >= self._alarm:
            if answered == self._alarm:
                self._alarm_stride = 2 * self._alarm_stride if self._is_familiar else 0
            self._alarm = None
        self._alarm_stride = max(
            settings.min_stride, min(settings.max_stride, self._alarm_stride))
        return (settings.still > 0 and self._watch.entered
                and self._frames_since_early >= self._alarm_stride)

    def _send_key_frame(self, frame: np.ndarray, now: float) -> None:
        self.counters.key_frames_sent += 1
        self._awaited = self.counters.key_frames_sent
        self._unanswered[self._awaited] = now
        self._key_frame_time = now
        self.frames_since_key_frame = 0
        self._send(KeyFrame(
            self.session_id, self._awaited, self.counters.frames, self._model_id,
            self.weights_version, self._weights_checksum, frame))

    def _give_up_overdue(self, now: float) -> None:
        timeout = self.settings.update_timeout
        if self.awaiting_update and now >= self._unanswered[self._awaited] + timeout:
            self._awaited = None
            self.overdue = True
            self.counters.updates_lost += 1
            self.stride = self.settings.min_stride
            # Answers later than this are not worth remembering key frames for.
            self._unanswered = {
                number: sent for number, sent in self._unanswered.items()
                if now - sent < 10 * timeout}

    def _check(self, update: WeightUpdate) -> dict[str, torch.Tensor]:
        """Check everything about an update and return the tensors to swap in, {} for none."""
        if update.session_id != self.session_id:
            raise UpdateRejected(
                'session', 'it is for another session: one before a reset, or that of another '
                'student on the same topics, which needs a namespace of its own')
        if update.key_frame_number not in self._unanswered:
            raise UpdateRejected(
                'key_frame', f'it answers key frame {update.key_frame_number}, which awaits none')
        if update.model_id != self._model_id:
            raise UpdateRejected(
                'model', f'it is for the model {update.model_id[:40]}, this one is '
                f'{self._model_id}: start robot and workstation with the same package version')
        if update.base_version != self.weights_version:
            raise UpdateRejected(
                'base_version', f'it is for weights version {update.base_version}, in use is '
                f'{self.weights_version}')
        if not (0 <= update.metric_before <= 1 and 0 <= update.metric_after <= 1
                and 0 < update.threshold < 1):
            raise UpdateRejected(
                'metric', f'metrics {update.metric_before} and {update.metric_after} or threshold '
                f'{update.threshold} are not between 0 and 1')
        if not all(0 <= seconds <= _LONGEST for seconds in (
                update.teacher_seconds, update.training_seconds)):
            raise UpdateRejected(
                'seconds', f'{update.teacher_seconds} s of the teacher or '
                f'{update.training_seconds} s of training are not 0 to {_LONGEST:.0f}')
        if not update.classes or not set(update.classes) <= set(range(NUM_CLASSES)):
            raise UpdateRejected(
                'classes', f'the classes {update.classes[:10]} are not of the {NUM_CLASSES} known')
        if update.scope == Scope.NONE:
            if update.tensors.blob or update.new_version != update.base_version:
                raise UpdateRejected('scope', 'it says that it holds no weights, but does')
            if update.weights_checksum != self._weights_checksum:
                raise UpdateRejected(
                    'checksum', 'the teacher holds other weights than this robot; the next key '
                    'frame sets it right')
            return {}
        if update.new_version != update.base_version + 1:
            raise UpdateRejected(
                'base_version', f'version {update.new_version} does not follow '
                f'{update.base_version}')
        if update.scope not in (Scope.PARTIAL, Scope.FULL):
            raise UpdateRejected('scope', f'scope {update.scope} is unknown')
        student = self.engine.student
        own = student.tensors()
        count = len(update.tensors.entries)
        if not count or (update.scope == Scope.FULL) != (count == len(own)):
            raise UpdateRejected(
                'scope', f'{count} of {len(own)} tensors are not its scope, {update.scope}')
        tensors = unpack(update.tensors, own)
        if student.weights_checksum(tensors) != update.weights_checksum:
            raise UpdateRejected(
                'checksum', 'the weights with it would not be those that the teacher has')
        return tensors
