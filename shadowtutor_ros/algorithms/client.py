"""Algorithm 4 of the paper: the robot's loop, which infers every frame and never waits."""

from dataclasses import dataclass, field, replace
import math
import secrets
from typing import Any, Callable, Iterable

import cv2
import numpy as np
import torch

from shadowtutor_ros.algorithms import check_origin, SessionError
from shadowtutor_ros.algorithms.drift import SceneDrift, SceneWatch
from shadowtutor_ros.algorithms.striding import MAX_STRIDE, next_stride
from shadowtutor_ros.classes import ClassTable, IGNORE, name_key
from shadowtutor_ros.errors import describe
from shadowtutor_ros.metrics import mean_iou
from shadowtutor_ros.models.student.base import checksum, Weights
from shadowtutor_ros.models.student.inference import InferenceEngine
from shadowtutor_ros.wire.key_frame import decode_label, KeyFrame, KeyFrameError
from shadowtutor_ros.wire.weight_update import (
    most_bytes, Status, unpack, UpdateRejected, WeightUpdate)

#: What to do when the update has not come MIN_STRIDE frames after its key frame: go on with the
#: weights at hand, or wait for it as the paper's client does.
LATE_UPDATE = ('continue', 'wait')

#: Longest update_timeout of a node, in seconds. The paper's client, which has none, waits longer,
#: and its messages do not expire.
LONGEST_TIMEOUT = 600.0

#: A teacher that is known to need longer than update_timeout is waited for up to so many times it.
#: A later answer is of no use.
PATIENCE = 10

#: Counts a second of what lies between an early key frame and one for somebody who enters, where
#: strides count time: nobody is kept waiting by strides that are counted slowly. It is the rate of
#: the videos that MIN_STRIDE was chosen on.
ENTRY_RATE = 25.0

#: Key frames without an answer that are remembered, each with a mask and at most 2 MB of weights.
UNANSWERED = 4

#: Bytes of a label at most.
MAX_LABEL = 2 ** 20

#: Longest time in seconds that a teacher's answer may state.
_LONGEST = 1e6


@dataclass
class ClientSettings:
    """
    How the client strides; docs/evaluation.md shows what the defaults give.

    :ivar min_stride: MIN_STRIDE, in frames of ``stride_rate``, at least 1; 8 in the paper.
    :ivar max_stride: MAX_STRIDE, likewise, at least ``min_stride``; 64 in the paper.
    :ivar late_update: one of :data:`LATE_UPDATE`.
    :ivar update_timeout: seconds after which a key frame's update counts as lost; longer, up to
        :data:`PATIENCE` times, where the teacher is known to need longer.
    :ivar stride_rate: frames a second that strides are counted in, whatever the camera's rate; 0
        counts the frames themselves, as the paper does.
    :ivar drift: distance of the scene from the last key frame (see :class:`SceneDrift`) above
        which a frame becomes a key frame early; 0 for never.
    :ivar still: distance up to which the scene counts as the one that the student has mastered:
        its next key frame may wait for ``still_stride``, or for whoever enters (see
        :class:`SceneWatch`); 0 for never, and then nobody looks for them either.
    :ivar still_stride: frames of ``stride_rate`` between the key frames of a still scene.
    """

    min_stride: int = 10
    max_stride: int = MAX_STRIDE
    late_update: str = 'continue'
    update_timeout: float = 10.0
    stride_rate: float = 15.0
    drift: float = 0.45
    still: float = 0.08
    still_stride: int = 512


def analytic_strides(settings: ClientSettings, t_si: float) -> list[dict[str, int]]:
    """
    Return the strides that the analytic model's bounds have to be taken over, in frames.

    :param settings: key frames by drift may come sooner than MIN_STRIDE, those of a still scene
        later than MAX_STRIDE.
    :param t_si: seconds a frame, above 0, for strides that count time.
    """
    frames = 1 / (settings.stride_rate * t_si) if settings.stride_rate else 1
    low = {max(1, int(frames * settings.min_stride))} | ({1} if settings.drift else set())
    high = {settings.max_stride}
    if settings.still:
        high.add(max(settings.max_stride, settings.still_stride))
    return [{'min_stride': least, 'max_stride': math.ceil(frames * most)}
            for least in low for most in high]


@dataclass
class ClientCounters:
    """What happened in a session, counted."""

    frames: int = 0
    key_frames_sent: int = 0
    updates_applied: int = 0
    updates_declined: int = 0
    updates_lost: int = 0
    updates_rejected: dict[str, int] = field(default_factory=dict)
    key_frames_refused: dict[str, int] = field(default_factory=dict)

    def reject(self, rejected: UpdateRejected) -> None:
        """Count an update that was rejected, by its reason."""
        _count(self.updates_rejected, rejected.reason)

    def refuse(self, reason: str) -> None:
        """Count a key frame that was refused, by the reason."""
        _count(self.key_frames_refused, reason)


def _count(counts: dict[str, int], key: str) -> None:
    counts[key] = counts.get(key, 0) + 1


@dataclass
class _KeyFrameSent:
    """
    A key frame that is not answered yet.

    :ivar sent: when, in seconds.
    :ivar classes: the table that was wanted then.
    :ivar weights_checksum: of the weights that the robot ran then, with rows for that table.
    :ivar bases: what an answer may start from, by checksum: these, and those of the weights file.
    :ivar size: of the frame, height and width.
    :ivar mask: what was made of it, H×W uint8, or smaller; None until that is known.
    :ivar mask_classes: the table of the mask.
    """

    sent: float
    classes: ClassTable
    weights_checksum: int
    bases: dict[int, Weights]
    mask_classes: ClassTable
    size: tuple[int, int]
    mask: np.ndarray | None = None


class Client:
    """
    The robot's side of a session, driven from one thread: frames, updates and the time go in.

    What a teacher sets on a robot holds while it answers. Where an update is overdue, a key frame
    was refused or the teacher has gone, the student chooses from all classes again that it has
    learnt.

    Other classes can be asked for at any time (:meth:`want`). They are taken over with the first
    answer of a teacher that knows them, between two frames; a robot alone takes them over at once,
    and so does one before its first frame.

    What is run can be kept (:meth:`export`), and gone on with by the client of a robot that was
    started again (:meth:`restore`): in a session of its own, which begins with these weights.

    :param engine: infers the frames; updates swap its weights.
    :param send: is handed each key frame, before its inference, and must not block.
    :param settings: are read at each call, so that they can change at run time.
    :param session_id: 0 to 2^64 − 1; random where it is not given.
    :param student_id: likewise; the same in all sessions of a robot's process.
    :param name: of the student, for people.
    """

    def __init__(
            self, engine: InferenceEngine, send: Callable[[KeyFrame], None],
            settings: ClientSettings, session_id: int | None = None,
            student_id: int | None = None, name: str = 'student'):
        self.engine = engine
        self.settings = settings
        self.session_id = secrets.randbits(64) if session_id is None else session_id
        #: Whether there is a teacher to send key frames to; the driver may clear and set it.
        self.connected = True
        self.counters = ClientCounters()
        self.weights_version = 0
        self.stride = settings.min_stride
        self.frames_since_key_frame = 0
        #: The teacher that is followed, by number and name: the first that answered. 0: none.
        self.teacher_id, self.teacher = 0, ''
        #: The last key frame that it answered; 0: none.
        self._answered = 0
        #: Classes that the student chooses from, by their places in the table.
        self.offered = tuple(range(len(engine.classes)))
        #: Names of all classes and of those: one value, which another thread may read.
        self.names = engine.classes.names, engine.classes.names
        #: What the last teacher that refused the classes said; empty where none did since they
        #: were wanted.
        self.classes_refused = ''
        #: The last update that was applied, and the seconds from its key frame to it.
        self.last_update: WeightUpdate | None = None
        self.round_trip: float | None = None
        #: Whether no update was applied since one was overdue, or since a key frame was refused.
        self.overdue = self.refused = False
        self._student_id = secrets.randbits(64) if student_id is None else student_id
        self._name = name
        self._send = send
        self._drift = SceneDrift()
        self._watch = SceneWatch()
        #: The last key frame because of the watch, until its answer is weighed, and how many
        #: frames have to lie between the next one and the early one before it.
        self._alarm: int | None = None
        self._alarm_stride = settings.min_stride
        #: Frames and time of the last early key frame.
        self._early_from = -math.inf, -math.inf
        self._model_id = engine.student.model_id
        #: All weights in use. What is kept of others shares the tensors that are equal.
        self._weights = engine.student.weights()
        self._weights_checksum = self._initial_checksum = checksum(self._weights)
        #: Weights and classes of the weights file; and, for the classes that are wanted, these
        #: weights with rows for them, and their checksum.
        self._origin = self._weights, engine.classes
        self._first = engine.classes, self._weights, self._initial_checksum
        #: What is asked for by the robot; by the next key frame; and was accepted by a teacher, or
        #: is that of the weights file.
        self._wish = self._wanted = self._accepted = engine.classes
        #: Digests of tables that the teacher knows.
        self._told = {engine.classes.digest}
        #: Names of classes whose rows were trained, as they are compared.
        self._learnt = frozenset(map(name_key, engine.classes.names))
        #: Unanswered key frames by number. The last of them is awaited until it is overdue; a late
        #: answer is still welcome.
        self._unanswered: dict[int, _KeyFrameSent] = {}
        self._awaited: int | None = None
        #: Seconds that the teacher needed for its last answer.
        self._needed = 0.0
        #: Key frames in a row that came to nothing.
        self._failures = 0
        #: Frames and time from which the stride counts.
        self._stride_from = 0, 0.0

    @property
    def classes(self) -> ClassTable:
        """The classes of the masks."""
        return self.engine.classes

    @property
    def wanted(self) -> ClassTable:
        """The classes that key frames ask for."""
        return self._wanted

    def want(self, classes: ClassTable) -> None:
        """
        Ask for classes; they are taken over between two frames, once a teacher agrees.

        :param classes: any; with no teacher, and before the first frame, they are taken over at
            the next one.
        """
        if classes.digest == self.classes.digest:
            self.engine.student.classes = classes  # ids and colours are nobody else's business
        if classes.digest == self._wish.digest:
            return
        self._wish = self._wanted = classes
        self.classes_refused = ''
        self._stride_from = None

    def request_key_frame(self) -> None:
        """Send the next frame as a key frame, or the first that no answer is awaited at."""
        self._stride_from = None

    @property
    def awaiting_update(self) -> bool:
        """Whether a key frame's update is still to come and not overdue."""
        return self._awaited is not None

    @property
    def patience(self) -> float:
        """Seconds after which an update is overdue."""
        timeout = self.settings.update_timeout
        return max(timeout, min(PATIENCE * timeout, 1.5 * self._needed))

    def on_frame(
            self, frame: np.ndarray, now: float, stamp: float | None = None) -> np.ndarray:
        """
        Infer a frame, and send it first if it is a key frame (Algorithm 4).

        The first frame is a key frame, and so is each that is ``stride`` frames after the last.
        While an update is awaited no further key frame is sent: it would only queue up behind.

        :param frame: H×W×3 uint8, BGR; must not be written to later.
        :param now: seconds, on any clock that does not jump back.
        :param stamp: seconds of the camera's clock, which may jump; ``now`` where it has none.
        :returns: H×W uint8, :attr:`classes` by their places; smaller where the engine leaves it
            so.
        """
        if not self.connected:
            if self.teacher_id or self._unanswered or self._stride_from is not None:
                self.forget_teacher()
        if not self.connected or not self.counters.frames:
            self._adopt(self._wanted)
        self._give_up_overdue(now)
        may_send = self.connected and not self.awaiting_update
        is_key_frame = may_send and self._is_due(now)
        if is_key_frame:
            self._send_key_frame(frame, now)
        mask = self.engine(frame)
        before = self._drift.distance
        self._drift.update(self.engine, frame, is_reference=is_key_frame)
        if self.settings.still:
            self._watch.update(frame, now if stamp is None else stamp)
            if is_key_frame:
                self._watch.refer()
        has_entered = self._has_entered(now)
        if may_send and not is_key_frame and (self._has_drifted(before, now) or has_entered):
            # Known only now that its features are; its own mask is out of reach anyway.
            is_key_frame = True
            self._send_key_frame(frame, now)
            self._early_from = self._stride_from
            if has_entered:
                self._alarm = self._awaited
            self._drift.refer()
            self._watch.refer()
        if is_key_frame:
            one = self._unanswered[self._awaited]
            one.mask, one.mask_classes = mask, self.classes
        self.frames_since_key_frame += 1
        self.counters.frames += 1
        return mask

    def screen(
            self, session_id: int, number: int, tensors: int, blob: int, label: int,
            classes: int) -> None:
        """
        Check whom an update is for and how large it is, before anything of it is read.

        It may be called from another thread than the rest.

        :param session_id, number: of the session and the key frame.
        :param tensors, blob, label, classes: how many tensors it names, bytes of its blob and of
            its label, and how many classes it names.
        :raises UpdateRejected: if it cannot be an answer; :attr:`counters` can count it.
        """
        if session_id != self.session_id:
            raise UpdateRejected(
                'session', 'it is for another session: one before a reset, or that of another '
                'student on the same topics, which needs a namespace of its own')
        one = self._unanswered.get(number)
        if one is None:
            raise UpdateRejected(
                'key_frame', f'it answers key frame {number}, which awaits no answer (any more)')
        base = one.bases[one.weights_checksum]
        most = most_bytes(base)
        if tensors > len(base) or classes > len(one.classes):
            raise UpdateRejected(
                'layout', f'it names {tensors} tensors and {classes} classes, more than there are')
        if blob > most or label > MAX_LABEL:
            raise UpdateRejected(
                'size', f'its tensors have {blob} bytes and its label {label}, where at most '
                f'{most} and {MAX_LABEL} are possible')

    def on_update(self, update: WeightUpdate, now: float) -> None:
        """
        Apply an update, all or nothing, and compute the next stride; between two frames only.

        An answer that refuses the key frame is counted by its reason, and the tries are spaced.

        :param update: not trusted.
        :param now: seconds, on the clock of :meth:`on_frame`.
        :raises UpdateRejected: if it must not be applied; it is counted, and the weights are as
            they were.
        """
        number = update.key_frame_number
        try:
            self.screen(
                update.session_id, number, len(update.tensors.places), len(update.tensors.blob),
                len(update.label), len(update.classes))
            self._check_sender(update)
            weights, weights_checksum, own_metric = self._check(update)
        except UpdateRejected as rejected:
            self.counters.reject(rejected)
            if rejected.reason not in ('session', 'key_frame', 'teacher'):
                # The teacher did answer; the next key frame tells it what is really run here.
                self._settle(number)
                self._fail(now)
            raise
        if update.status == Status.REFUSED:
            self._on_refusal(update, now)
            return
        self.teacher_id, self.teacher = update.teacher_id, update.teacher
        self._answered = number
        one = self._unanswered[number]
        metric = update.metric_after
        if own_metric is not None:
            update = replace(update, metric_before=own_metric)
            if not metric > own_metric:  # what is run here does better
                (weights, weights_checksum), metric = self._held(one), own_metric
                update = replace(update, metric_after=own_metric)
                self.counters.updates_declined += 1
        self._told.add(one.classes.digest)
        self._accepted = one.classes
        if one.classes.digest in (self.classes.digest, self._wanted.digest):
            self._run(weights, weights_checksum, one.classes)
            self._learnt |= {name_key(one.classes.names[place]) for place in update.classes}
            self._offer(update.classes)
        self.round_trip = self._needed = now - one.sent
        self._settle(number)
        self.overdue = self.refused = False
        self._failures = 0
        self.last_update = update
        self.counters.updates_applied += 1
        self.stride = next_stride(
            metric, self.stride, threshold=update.threshold,
            min_stride=self.settings.min_stride, max_stride=self.settings.max_stride)

    def wait_until(self) -> float | None:
        """
        Tell until when the driver has to wait for an update before the next frame.

        :returns: the time at which to go on without it, on the clock of :meth:`on_frame`; None
            where there is nothing to wait for. It is the paper's wait at MIN_STRIDE. A teacher
            that has gone or is silent is not waited for.
        """
        if (self.settings.late_update == 'wait' and self.awaiting_update and self.connected
                and not self.overdue
                and self.frames_since_key_frame == self.settings.min_stride):
            return self._unanswered[self._awaited].sent + self.settings.update_timeout
        return None

    def forget_teacher(self) -> None:
        """
        Take back what the teacher has set but the weights, and await nothing of it any more.

        The driver calls it where the teacher has gone, or was restarted. The next key frame goes
        to whoever is there, at once.
        """
        if self._awaited is not None:
            self._awaited = None
            self.counters.updates_lost += 1
        self._unanswered.clear()
        self._stop_following()
        # Another one may know other classes.
        self._told = {self._origin[1].digest}
        self._wanted = self._wish
        self.classes_refused = ''
        self.overdue = self.refused = False
        self._failures = 0
        self._needed = 0.0
        self._stride_from = None

    def export(self) -> tuple[Weights, dict[str, Any]]:
        """
        Return what is run, to be kept on a disk; at once, between two frames only.

        :returns: all the weights by name, which nobody must write to, nor does the client, so that
            another thread may read them later; and what JSON can hold.
        """
        return self._weights, {
            'model_id': self._model_id, 'weights_file': self._initial_checksum,
            'weights': self._weights_checksum, 'weights_version': self.weights_version,
            'classes': self.classes.as_dict(), 'learnt': sorted(self._learnt)}

    def restore(self, tensors: Weights, meta: dict[str, Any]) -> None:
        """
        Go on with what :meth:`export` has returned, of a client before this; before any frame.

        It chooses from all classes that it has learnt, as one whose teacher has gone.

        :raises SessionError: if it is something else, or of another model or other weights;
            nothing is changed then.
        """
        student = self.engine.student
        try:
            check_origin(meta, self._model_id, self._initial_checksum)
            classes = ClassTable.from_dict(meta['classes'])
            kept = type(student)(classes)
            kept.assign(tensors)
            weights, version = kept.weights(), meta['weights_version']
            learnt = {name for name in meta['learnt'] if isinstance(name, str)}
            if checksum(weights) != meta['weights']:
                raise SessionError('its weights are not those that were saved')
            if type(version) is not int or not 0 <= version < 2 ** 32:
                raise SessionError(f'its weights have version {str(version)[:20]}')
        except SessionError:
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise SessionError(f'it is not what a student saves ({describe(error)})') from None
        # What is equal is kept once.
        first, _ = self._origin
        weights = {name: first[name] if torch.equal(tensor, first[name]) else tensor
                   for name, tensor in weights.items()}
        self._run(weights, meta['weights'], classes)
        self.weights_version = version
        self._wish = self._wanted = classes
        self._learnt |= learnt & set(map(name_key, classes.names))
        self._offer_learnt()

    def _is_due(self, now: float) -> bool:
        """Tell whether a key frame is due by the stride (Algorithm 2)."""
        if not self.counters.key_frames_sent or self._stride_from is None:
            return True
        settings = self.settings
        # The limits may have changed since the stride was computed.
        stride = max(settings.min_stride, min(settings.max_stride, self.stride))
        if self._drift.distance < settings.still and self._has_mastered and (
                not self._watch.changed or self._is_familiar):
            stride = max(stride, settings.still_stride)
        return self._passed(self._stride_from, now, self.settings.stride_rate) >= stride

    def _passed(self, since: tuple[float, float], now: float, rate: float) -> float:
        """Return the frames since then; where strides count time, those at a rate."""
        frames, time = since
        return rate * (now - time) if self.settings.stride_rate else self.counters.frames - frames

    @property
    def _has_mastered(self) -> bool:
        """Whether the student was good enough on the last key frame."""
        update = self.last_update
        return (update is not None and not self._unanswered and not self._failures
                and update.metric_after > update.threshold)

    def _has_drifted(self, before: float, now: float) -> bool:
        """
        Tell whether the scene has drifted too far from the last key frame to wait for the next.

        Once is a flash, twice in a row is another scene. Early key frames are MIN_STRIDE apart,
        and there are none while the tries are spaced.

        :param before: the distance of the frame before.
        :param now: seconds.
        """
        limit = self.settings.drift
        return (0 < limit < min(before, self._drift.distance) and not self._failures
                and self._passed(self._early_from, now, self.settings.stride_rate)
                >= self.settings.min_stride)

    @property
    def _is_familiar(self) -> bool:
        """Whether the student was good enough on the last key frame before it was trained."""
        update = self.last_update
        return update is not None and update.metric_before > update.threshold

    def _has_entered(self, now: float) -> bool:
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
        return (settings.still > 0 and self._watch.entered and not self._failures
                and self._passed(self._early_from, now, ENTRY_RATE) >= self._alarm_stride)

    def _send_key_frame(self, frame: np.ndarray, now: float) -> None:
        self.counters.key_frames_sent += 1
        self._awaited = self.counters.key_frames_sent
        classes = self._wanted
        held, held_checksum = self._weights, self._weights_checksum
        if classes.digest != self.classes.digest:
            held = self._with_classes(held, self.classes, classes)
            held_checksum = checksum(held)
        if classes.digest != self._first[0].digest:
            first = self._with_classes(*self._origin, classes)
            self._first = classes, first, checksum(first)
        _, first, first_checksum = self._first
        self._unanswered[self._awaited] = _KeyFrameSent(
            now, classes, held_checksum, {first_checksum: first, held_checksum: held},
            self.classes, frame.shape[:2])
        if len(self._unanswered) > UNANSWERED:
            del self._unanswered[next(iter(self._unanswered))]
        is_told = classes.digest in self._told
        self._stride_from = self.counters.frames, now
        self.frames_since_key_frame = 0
        self._send(KeyFrame(
            self.session_id, self._awaited, self.counters.frames, self._model_id,
            self._initial_checksum, self.weights_version, held_checksum, frame,
            self._student_id, self._name, self.teacher_id, self.patience, classes.digest,
            () if is_told else classes.entries, classes.background, answered=self._answered))

    def _give_up_overdue(self, now: float) -> None:
        if not self.awaiting_update or now < self._unanswered[self._awaited].sent + self.patience:
            return
        self._awaited = None
        self.overdue = True
        self.counters.updates_lost += 1
        self._stop_following()
        self._fail(now)
        longest = PATIENCE * self.settings.update_timeout
        self._unanswered = {
            number: one for number, one in self._unanswered.items() if now - one.sent < longest}

    def _fail(self, now: float) -> None:
        """Space the next try: the first at MIN_STRIDE, each further one twice as far away."""
        settings = self.settings
        self._failures += 1
        self.stride = min(
            settings.max_stride, settings.min_stride * 2 ** min(self._failures - 1, 20))
        if self._failures > 1:
            self._stride_from = self.counters.frames, now

    def _on_refusal(self, update: WeightUpdate, now: float) -> None:
        if self.teacher_id:
            self._settle(update.key_frame_number)
        else:  # another teacher may still answer it
            self._awaited = None
        reason = update.refusal_reason
        self.counters.refuse(reason)
        self.refused = True
        self._offer_learnt()
        if reason == 'table':  # it has been told, but has forgotten
            self._told.discard(self._wanted.digest)
        if reason == 'classes':
            self.classes_refused = update.text
            self._wanted = self._accepted
        if reason == 'too_late':  # it is there, and busy
            self._needed = update.needed_seconds
            self._failures = 0
        self._fail(now)

    def _stop_following(self) -> None:
        self.teacher_id, self.teacher = 0, ''
        self._answered = 0
        self._offer_learnt()

    def _offer_learnt(self) -> None:
        """Choose from all classes but those that nobody has trained."""
        table = self.classes
        self._offer(place for place, name in enumerate(table.names)
                    if place == table.background or name_key(name) in self._learnt)

    def _offer(self, classes: Iterable[int]) -> None:
        """Choose from these classes alone."""
        self.offered = tuple(classes)
        names = self.classes.names
        self.names = names, tuple(names[place] for place in self.offered)
        self.engine.restrict(self.offered)

    def _settle(self, number: int) -> None:
        """Await this key frame no longer, nor those before it."""
        self._unanswered = {n: one for n, one in self._unanswered.items() if n > number}
        if self._awaited == number:
            self._awaited = None

    def _with_classes(self, weights: Weights, old: ClassTable, new: ClassTable) -> Weights:
        return self.engine.student.with_classes(weights, old, new, self._origin)

    def _held(self, one: _KeyFrameSent) -> tuple[Weights, int]:
        """Return what is run now, with rows for a key frame's table, and its checksum."""
        if one.classes.digest == self.classes.digest:  # a late update may have come in between
            return self._weights, self._weights_checksum
        return one.bases[one.weights_checksum], one.weights_checksum

    def _adopt(self, classes: ClassTable) -> None:
        """Take over classes that are wanted, with what is known of them."""
        if classes.digest != self.classes.digest:
            weights = self._with_classes(self._weights, self.classes, classes)
            self._run(weights, checksum(weights), classes)
            self._offer_learnt()

    def _run(self, weights: Weights, weights_checksum: int, classes: ClassTable) -> None:
        """Run other weights, where they are others."""
        if weights is self._weights and classes.digest == self.classes.digest:
            return
        if classes.digest != self.classes.digest:
            # What is no longer in the table is no longer known, but to the weights file.
            self._learnt = frozenset(map(name_key, self._origin[1].names)) | (
                self._learnt & set(map(name_key, classes.names)))
            self.engine.change_classes(weights, classes)
        else:
            self.engine.swap({name: tensor for name, tensor in weights.items()
                              if tensor is not self._weights[name]})
        if weights_checksum != self._weights_checksum:
            self.weights_version += 1
        self._weights, self._weights_checksum = weights, weights_checksum

    def _check_sender(self, update: WeightUpdate) -> None:
        if update.model_id != self._model_id:
            raise UpdateRejected(
                'model', f'it is for the model {update.model_id[:40]}, this one is '
                f'{self._model_id}: start robot and workstation with the same package version')
        if not update.teacher_id or self.teacher_id not in (0, update.teacher_id):
            raise UpdateRejected(
                'teacher', f"it is of the teacher '{update.teacher[:80]}' (number "
                f"{update.teacher_id:016x}), while '{self.teacher[:80]}' ({self.teacher_id:016x}) "
                'is followed until it is silent: let one teacher answer this robot')

    def _check(self, update: WeightUpdate) -> tuple[Weights, int, float | None]:
        """
        Check the rest of an update.

        :returns: all the weights after it and their checksum, and the metric on the key frame of
            what was in use, where the teacher left it to the robot to find out.
        """
        one = self._unanswered[update.key_frame_number]
        if update.status == Status.REFUSED:
            if not 0 <= update.needed_seconds <= _LONGEST:
                raise UpdateRejected(
                    'seconds', f'{update.needed_seconds} s that were needed are not 0 to '
                    f'{_LONGEST:.0f}')
            return self._weights, self._weights_checksum, None
        self._check_figures(update)
        if update.status == Status.NOTHING_TO_GAIN:
            weights, held = self._held(one)
            if update.weights_checksum != held:
                raise UpdateRejected(
                    'checksum', 'the teacher holds other weights than this robot; the next key '
                    'frame sets it right')
            return weights, held, None
        if update.status != Status.DONE:
            raise UpdateRejected('status', f'status {update.status} is unknown')
        base = one.bases.get(update.base_checksum)
        if base is None:
            raise UpdateRejected(
                'base', f'it starts from weights with the checksum {update.base_checksum:08x}, '
                'which this robot does not have')
        weights = {**base, **unpack(update.tensors, base)}
        if checksum(weights) != update.weights_checksum:
            raise UpdateRejected(
                'checksum', 'the weights with it would not be those that the teacher has')
        own_metric = self._own_metric(update) if update.label else None
        return weights, update.weights_checksum, own_metric

    def _check_figures(self, update: WeightUpdate) -> None:
        metrics = [update.metric_after]
        if update.status != Status.DONE or not update.label:  # else the robot finds out
            metrics.append(update.metric_before)
        if not (all(0 <= metric <= 1 for metric in metrics) and 0 < update.threshold < 1):
            raise UpdateRejected(
                'metric', f'metrics {update.metric_before} and {update.metric_after} or threshold '
                f'{update.threshold} are not between 0 and 1')
        if not all(0 <= seconds <= _LONGEST for seconds in (
                update.teacher_seconds, update.training_seconds)):
            raise UpdateRejected(
                'seconds', f'{update.teacher_seconds} s of the teacher or '
                f'{update.training_seconds} s of training are not 0 to {_LONGEST:.0f}')
        count = len(self._unanswered[update.key_frame_number].classes)
        bounds = -1, *update.classes, count
        if not update.classes or not all(map(int.__lt__, bounds, bounds[1:])):
            raise UpdateRejected(
                'classes', f'the classes {update.classes[:10]} are not some of the {count} in '
                'the table, ascending')

    def _own_metric(self, update: WeightUpdate) -> float:
        """Compute the metric of the mask that was made of the key frame, against its label."""
        one = self._unanswered[update.key_frame_number]
        mask, count = one.mask, len(one.classes)
        if mask is None:
            raise UpdateRejected(
                'label', 'the key frame could not be inferred, so its label says nothing')
        try:
            label = decode_label(update.label, one.size)
        except KeyFrameError as error:
            raise UpdateRejected('label', f'its label cannot be read: {error}') from None
        if np.any((label >= count) & (label != IGNORE)):
            raise UpdateRejected(
                'label', f'its label holds classes that are not of the {count} in the table')
        # The key frame may have been scaled down on its way, and the mask not up.
        mask = cv2.resize(mask, label.shape[::-1], interpolation=cv2.INTER_NEAREST)
        mask = one.classes.translated(mask, one.mask_classes.names)
        metric = mean_iou(mask, label, count)
        return update.threshold if math.isnan(metric) else metric
