"""Algorithm 3 of the paper: the server, which labels key frames and trains the robot's student."""

from collections import deque
import copy
import dataclasses
import math
import secrets
from typing import Any, Callable, Iterable

import numpy as np
import torch

from shadowtutor_ros.algorithms import check_origin, part, SessionError
from shadowtutor_ros.algorithms.labelling import label_together
from shadowtutor_ros.algorithms.places import Places, signature
from shadowtutor_ros.algorithms.student_training import (
    StudentTrainer, TrainingResult, TrainingSettings)
from shadowtutor_ros.classes import ClassesError, ClassTable, name_key
from shadowtutor_ros.errors import describe
from shadowtutor_ros.models.student.base import checksum, Student, Weights
from shadowtutor_ros.models.teachers.base import Teacher, TeacherPrediction
from shadowtutor_ros.wire.key_frame import encode_label, KeyFrame, KeyFrameError
from shadowtutor_ros.wire.weight_update import (
    NO_TENSORS, pack, PackedTensors, Status, unpack, UpdateRejected, WeightUpdate)

#: Weights that a session remembers besides those of the weights file: the latest that it sent.
#: They share the tensors that are the same, and take 2 MB each at most.
REMEMBERED = 4

#: Class tables that a session remembers.
TABLES = 4

#: Seconds without a key frame after which another student may take a student's place, where both
#: are still there. A still scene sends one every ``still_stride``: 34 s by default.
SILENCE = 120.0

#: Where a robot is not in step, the difference may be large. If its encoding costs more mean IoU
#: than this, it is sent in the finer int8.
_COARSE = 0.01


@dataclasses.dataclass
class ServerSettings(TrainingSettings):
    """
    How key frames are answered: how the student is trained, and how its weights are sent.

    :ivar encoding: of the weights, one of ``wire.encodings.ENCODINGS``.
    :ivar training_seconds: after which no further step is taken on a key frame, once one has
        helped, 0 or above; 0: all that MAX_UPDATES allows. What helps on a GPU would make a CPU
        late.
    :ivar places_megabytes: what is remembered of the places that a robot has left may take, 0 or
        above; those seen longest ago are forgotten first. 0: nothing is remembered.
    """

    encoding: str = 'int4'
    training_seconds: float = 0.5
    places_megabytes: float = 32.0


class Session:
    """
    What the server keeps of one session of a robot's student.

    :param session_id, student_id, name: of the student.
    :param student: the weights that it starts from; copied.
    :param settings: of the trainer.
    :param former: the session before, at the same place; see :meth:`go_on`.

    :ivar student, trainer: the server's student, which is ahead of the robot's by what is on its
        way, and what trains it.
    :ivar places: where the robot has been.
    :ivar initial: the weights of the weights file, with rows for the classes in force; the robot
        has them too.
    :ivar last_number: of the key frames answered.
    :ivar heard: when the last key frame came, on the server's clock.
    """

    def __init__(
            self, session_id: int, student_id: int, name: str, student: Student,
            settings: ServerSettings, former: 'Session | None' = None):
        self.id = session_id
        self.student_id = student_id
        self.name = name
        self.student = copy.deepcopy(student)
        self.trainer = StudentTrainer(self.student, settings)
        self.places = Places()
        self.last_number = 0
        self.heard = 0.0
        #: Tables that the robot has named, by their digests.
        self.tables = {student.classes.digest: student.classes}
        self._origin = self.student.weights(), student.classes
        self.initial = self._origin[0]
        self.initial_checksum = checksum(self.initial)
        #: Weights that were sent, with their classes, by the checksums that they have with rows
        #: for the classes in force.
        self._sent: dict[int, tuple[Weights, ClassTable]] = {}
        #: One that has not begun yet only hands on what it could have gone on from.
        self._former = former and (former._former or former)

    @property
    def classes(self) -> ClassTable:
        """The classes in force."""
        return self.student.classes

    def known(self, weights_checksum: int) -> Weights | None:
        """Return the weights of a checksum, where the robot can have them from here; else None."""
        if weights_checksum == self.initial_checksum:
            return self.initial
        sent = self._sent.pop(weights_checksum, None)
        if sent is None:
            left = self.places.known(weights_checksum)
            return None if left is None else {**self.initial, **left}
        self._sent[weights_checksum] = sent  # what the robot runs is forgotten last
        return self._with_classes(*sent, self.classes)

    def remember(self, weights_checksum: int, weights: Weights) -> None:
        """Remember weights that are sent, and forget the oldest where there are too many."""
        self._sent.pop(weights_checksum, None)
        self._sent[weights_checksum] = weights, self.classes
        if len(self._sent) > REMEMBERED:
            del self._sent[next(iter(self._sent))]

    def go_on(self, weights_checksum: int, classes: ClassTable) -> None:
        """
        Begin where the session before has come to, if the robot goes on with what it had learnt.

        A robot that was started again begins a session with the weights of the weights file, or
        with others, which it has kept. Those may be none that are remembered here, where it kept
        them some time before its end; what was learnt with it since is of use all the same.

        :param weights_checksum: of what the robot runs at the beginning.
        :param classes: that this has rows for.
        """
        former, self._former = self._former, None
        if former is None or weights_checksum == checksum(
                self._with_classes(*self._origin, classes)):
            return
        # Copies: if both robots are still there, each has a session of its own.
        self.student, self.trainer, self.places = copy.deepcopy(
            (former.student, former.trainer, former.places))
        self._index(former._sent.values())

    def export(self) -> tuple[Weights, dict[str, Any]]:
        """
        Return all that the session is, to be kept on a disk.

        :returns: tensors by name, and what JSON can hold.
        """
        own = self.student.weights()
        tensors, trainer = self.trainer.export()
        tensors = {f'trainer.{name}': tensor for name, tensor in tensors.items()}
        tensors.update({f'student.{name}': tensor for name, tensor in own.items()})
        places, places_meta = self.places.export()
        tensors.update({f'places.{name}': tensor for name, tensor in places.items()})
        sent = []
        for number, (weights, table) in enumerate(self._sent.values()):
            sent.append(table.as_dict())
            # Most of what was sent is as it is now.
            tensors.update({
                f'sent.{number}.{name}': tensor for name, tensor in weights.items()
                if tensor.shape != own[name].shape or not torch.equal(tensor, own[name])})
        return tensors, {
            'id': self.id, 'student_id': self.student_id, 'name': self.name,
            'last_number': self.last_number, 'classes': self.classes.as_dict(),
            'tables': [table.as_dict() for table in self.tables.values()], 'sent': sent,
            'trainer': trainer, 'places': places_meta}

    @classmethod
    def restored(
            cls, tensors: Weights, meta: dict[str, Any], student: Student,
            settings: ServerSettings) -> 'Session':
        """
        Make a session of what :meth:`export` has returned.

        :param student: the weights that it started from; copied.
        :raises KeyError, TypeError, ValueError, RuntimeError: if it is something else.
        """
        session = cls(int(meta['id']), int(meta['student_id']), str(meta['name']), student,
                      settings)
        session.last_number = int(meta['last_number'])
        session.tables = {table.digest: table for table in map(
            ClassTable.from_dict, meta['tables'])}
        classes, own = ClassTable.from_dict(meta['classes']), part(tensors, 'student.')
        session.student = student.copy_with(own, classes)
        session.trainer = StudentTrainer(session.student, settings)
        session.trainer.restore(part(tensors, 'trainer.'), meta['trainer'])
        own = session.student.weights()
        session.places.restore(part(tensors, 'places.'), meta['places'], own)
        session._index([({**own, **part(tensors, f'sent.{number}.')}, ClassTable.from_dict(table))
                        for number, table in enumerate(meta['sent'])])
        return session

    def change_classes(self, classes: ClassTable) -> None:
        """Go on with other classes: with the rows of names that stay, and made ones."""
        first = self._origin[1]
        known = {name_key(name) for table in (first, self.classes) for name in table.names}
        weights = self._with_classes(self.student.weights(), self.classes, classes)
        self.student = self.student.copy_with(weights, classes)
        # Labels of key frames are of the classes that were, and so are Adam's state and what was
        # left at places.
        self.trainer = StudentTrainer(self.student, self.trainer.settings, [
            place for place, name in enumerate(classes.names) if name_key(name) in known])
        self.places = Places()
        self._index(self._sent.values())

    def _index(self, sent: Iterable[tuple[Weights, ClassTable]]) -> None:
        """Know the weights of the file, and those that were sent, by the classes in force."""
        self.initial = self._with_classes(*self._origin, self.classes)
        self.initial_checksum = checksum(self.initial)
        self._sent = {checksum(self._with_classes(*one, self.classes)): one for one in sent}

    def _with_classes(self, weights: Weights, old: ClassTable, new: ClassTable) -> Weights:
        return self.student.with_classes(weights, old, new, self._origin)


@dataclasses.dataclass(frozen=True, eq=False)
class Admitted:
    """
    A key frame that is to be labelled, and taught.

    :ivar key_frame: as it was admitted.
    :ivar session: that it belongs to.
    :ivar classes: that it is to be labelled with.
    :ivar settings: that hold for it.
    :ivar since: when it was admitted, on the server's clock.
    """

    key_frame: KeyFrame
    session: Session
    classes: ClassTable
    settings: ServerSettings
    since: float


class Server:
    """
    One robot's place on the server: the sessions of its student, one at a time.

    :param student: the weights that a new session starts from, those of the weights file; copied.
    :param teacher: labels key frames; may be shared with other robots.
    :param settings: are read at each call, so that they can change at run time.
    :param clock: gives the time in seconds; only differences count.
    :param device: of PyTorch, that the student is trained on.
    :param teacher_id: in each answer, 1 to 2^64 − 1; random where it is not given.
    :param name: of the teacher, in each answer.
    """

    def __init__(
            self, student: Student, teacher: Teacher, settings: ServerSettings,
            clock: Callable[[], float], device: str = 'cpu', teacher_id: int | None = None,
            name: str = 'teacher'):
        self.settings = settings
        self.teacher_id = secrets.randbits(63) + 1 if teacher_id is None else teacher_id
        self.session: Session | None = None
        self._name = name
        self._teacher = teacher
        #: A plain function takes what it is asked for.
        self._vocabulary: tuple[str, ...] | None = getattr(teacher, 'vocabulary', None)
        self._clock = clock
        self._student = copy.deepcopy(student).to(device).eval()
        self._model_id = student.model_id
        self._initial_checksum = student.weights_checksum()
        #: The session before, of another student: of the same robot before a restart, or of one
        #: that is still there and has the older right to this place.
        self._before: Session | None = None
        #: Numbers of students that were refused since another has this place.
        self._refused: deque[int] = deque(maxlen=16)
        #: Seconds that the latest answers took.
        self._services: deque[float] = deque(maxlen=3)

    def warm_up(self, height: int, width: int) -> None:
        """Train a copy on an empty frame, so that the first key frame is no slower than any."""
        frame = np.zeros((height, width, 3), np.uint8)
        teaching = TeacherPrediction(np.zeros((height, width), np.uint8), np.zeros((0, 4)))
        settings = dataclasses.replace(self.settings, threshold=1.0, max_updates=1)
        StudentTrainer(copy.deepcopy(self._student), settings)(frame, teaching)

    def export(self) -> tuple[Weights, dict[str, Any]] | None:
        """Return the session as tensors by name and what JSON can hold; None if there is none."""
        if self.session is None:
            return None
        tensors, meta = self.session.export()
        return tensors, {'model_id': self._model_id, 'weights_file': self._initial_checksum,
                         'session': meta}

    def restore(self, tensors: Weights, meta: dict[str, Any]) -> None:
        """
        Go on with a session that :meth:`export` has returned, of this server or one before it.

        :raises SessionError: if it is none, or of another model or other weights.
        """
        try:
            check_origin(meta, self._model_id, self._initial_checksum)
            session = Session.restored(tensors, meta['session'], self._student, self.settings)
        except SessionError:
            raise
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise SessionError(f'it is not what a teacher saves ({describe(error)})') from None
        session.heard = self._clock()
        self.session = session

    @property
    def expected_seconds(self) -> float:
        """For how long an answer took of late, at best; 0 before the first."""
        return min(self._services, default=0.0)

    def on_key_frame(
            self, key_frame: KeyFrame, on_step: Callable[[], None] = lambda: None,
            waited: float = 0.0, alone: bool = False) -> WeightUpdate | None:
        """
        Label a key frame, train the student on it and answer with its weights (Algorithm 3).

        An update leads from what the robot runs to new weights, and is made only if these do
        better on the key frame. Where the server does not know what the robot runs, since it was
        restarted, say, it leads from the weights of the weights file, and holds the label, so that
        the robot can see whether they do better.

        :param key_frame, waited, alone: as for :meth:`admit`.
        :param on_step: called after every training step.
        :returns: the answer; None where the key frame was answered before.
        :raises KeyFrameError: as :meth:`admit` and :meth:`teach`, and where the teacher fails.
        """
        admitted = self.admit(key_frame, waited, alone)
        if admitted is None:
            return None
        labelled = label_together(self._teacher, [key_frame.frame], [admitted.classes])[0]
        return self.teach(admitted, labelled, self._clock() - admitted.since, on_step)

    def admit(
            self, key_frame: KeyFrame, waited: float = 0.0, alone: bool = False
    ) -> Admitted | None:
        """
        Check that a key frame can be answered; the first half of :meth:`on_key_frame`.

        Whoever labels it, together with those of other robots say, goes on with :meth:`teach`,
        before the next one is admitted. Nothing of the frame itself is read here.

        :param key_frame: a new session's begins with the weights of the weights file, or goes on
            from the session before, see :meth:`Session.go_on`.
        :param waited: seconds since it came.
        :param alone: whether no other student is known to send key frames to this place.
        :returns: None where the key frame was answered before.
        :raises KeyFrameError: if it is refused: of another model or other weights, of a second
            student, with classes that the teacher does not know, or too late; :meth:`refuse` makes
            the answer. The session goes on as if nothing had come.
        """
        now = self._clock()
        self._check_model(key_frame)
        session = self._admit(key_frame, alone, now)
        session.heard = now
        if key_frame.number <= session.last_number:
            return None
        self._check_time(key_frame, waited)
        session.last_number = key_frame.number
        classes = self._classes(session, key_frame)
        session.go_on(key_frame.weights_checksum, classes)
        # As they are now: they may change while the student is trained.
        return Admitted(key_frame, session, classes, dataclasses.replace(self.settings), now)

    def teach(
            self, admitted: Admitted, labelled: TeacherPrediction | KeyFrameError,
            teacher_seconds: float, on_step: Callable[[], None] = lambda: None) -> WeightUpdate:
        """
        Train on a labelled key frame, and make the answer; the second half.

        :param admitted: of :meth:`admit`.
        :param labelled: what the teacher says of its frame, or why it says nothing.
        :param teacher_seconds: that this took.
        :param on_step: called after every training step.
        :raises KeyFrameError: if the teacher has failed, training does or gives weights that
            cannot be sent. The session goes on as if nothing had come.
        """
        if isinstance(labelled, KeyFrameError):
            raise labelled
        begin = self._clock()
        session, settings = admitted.session, admitted.settings
        if admitted.classes.digest != session.classes.digest:
            session.change_classes(admitted.classes)
        session.trainer.settings = settings
        try:
            update = self._teach(
                session, admitted.key_frame, labelled, settings, on_step, begin)
        except KeyFrameError:
            raise
        except Exception as error:  # a label that does not fit, or out of memory
            reason = 'unlabelled' if isinstance(error, ValueError) else 'training'
            raise KeyFrameError(
                f'the student could not be trained on it ({describe(error)})', reason) from error
        training_seconds = self._clock() - begin
        self._services.append(teacher_seconds + training_seconds)
        return dataclasses.replace(
            update, teacher_seconds=teacher_seconds, training_seconds=training_seconds)

    def refuse(
            self, session_id: int, number: int, model_id: str, error: KeyFrameError
    ) -> WeightUpdate:
        """
        Make the answer to a key frame that is refused.

        :param session_id, number, model_id: of the key frame.
        :param error: what :meth:`on_key_frame` raised, or the decoding of the key frame.
        """
        return refusal(self.teacher_id, self._name, session_id, number, model_id, error)

    def _check_model(self, key_frame: KeyFrame) -> None:
        if key_frame.model_id != self._model_id:
            raise KeyFrameError(
                f'it is from a student with the model {key_frame.model_id[:40]}, this teacher has '
                f'{self._model_id}: start both with the same package version', 'model')
        if key_frame.initial_checksum != self._initial_checksum:
            raise KeyFrameError(
                f'the weights file of the student has the checksum '
                f'{key_frame.initial_checksum:08x}, that of this teacher '
                f'{self._initial_checksum:08x}: start both with the same parameter weights',
                'weights')

    def _classes(self, session: Session, key_frame: KeyFrame) -> ClassTable:
        """Return the classes that a key frame asks for."""
        digest, tables = key_frame.classes_digest, session.tables
        if digest not in tables:
            if not key_frame.classes:
                raise KeyFrameError(
                    'its classes are not known here (any more): the next key frame names them',
                    'table')
            try:
                table = ClassTable.of(key_frame.classes, key_frame.background)
                if table.digest != digest:
                    raise ClassesError('their digest is another than was said')
            except ClassesError as error:
                raise KeyFrameError(f'its classes cannot be: {error}', 'classes') from None
            self._check_vocabulary(table)
            tables[digest] = table
            if len(tables) > TABLES:  # the first is that of the weights file
                del tables[list(tables)[1]]
        return tables[digest]

    def _check_vocabulary(self, table: ClassTable) -> None:
        """Check that the teacher, or else the weights file, knows all classes."""
        own = self._student.classes
        known = {name_key(word) for words in (own.names, *own.members) for word in words}
        unknown = [(name, near) for name, near in table.unknown(self._vocabulary)
                   if name_key(name) not in known]
        if unknown:
            vocabulary = self._vocabulary or ()
            raise KeyFrameError('; '.join([*(
                f"this teacher does not know '{name}'"
                + (f' (but {", ".join(near)})' if near else '') for name, near in unknown[:5]),
                *([f'nor {len(unknown) - 5} more'] if len(unknown) > 5 else []),
                f'it has {len(vocabulary)} names: {", ".join(vocabulary)[:300]}']), 'classes')

    def _check_time(self, key_frame: KeyFrame, waited: float) -> None:
        expected = self.expected_seconds
        if not waited + expected <= key_frame.useful_seconds:  # NaN is no time either
            # What was slow once need not be so for ever.
            if self._services:
                self._services.popleft()
            raise KeyFrameError(
                f'an answer would come after {waited + expected:.1f} s (waited {waited:.1f} s), '
                f'and is of use for {key_frame.useful_seconds:.1f} s: give the teacher fewer '
                'robots or more speed, or raise update_timeout', 'too_late', waited + expected)

    def _admit(self, key_frame: KeyFrame, alone: bool, now: float) -> Session:
        """
        Return the session of a key frame; one of another student may take the place.

        A student that was restarted is another than before, and so is a second one on the same
        topics. It is let in at once. If the one before it then speaks again there are two, and the
        older one keeps the place until it is gone, or silent.
        """
        if alone:
            self._before = None
            self._refused.clear()
        if self._before is not None and self._before.student_id == key_frame.student_id:
            self._refused.append(self.session.student_id)
            self.session, self._before = self._before, None
        session = self.session
        if session is not None and session.id == key_frame.session_id:
            return session
        if session is not None and session.student_id != key_frame.student_id:
            if key_frame.student_id in self._refused and now - session.heard < SILENCE:
                raise KeyFrameError(
                    f"the student '{session.name}' (number {session.student_id:016x}) is served "
                    f"here, so that another, '{key_frame.student}' "
                    f'({key_frame.student_id:016x}), is not: give each robot a namespace of its '
                    'own', 'another_student')
            self._before = None if alone else session
        self.session = Session(
            key_frame.session_id, key_frame.student_id, key_frame.student, self._student,
            self.settings, session)
        return self.session

    def _teach(
            self, session: Session, key_frame: KeyFrame, teaching: TeacherPrediction,
            settings: ServerSettings, on_step: Callable[[], None], begin: float) -> WeightUpdate:
        """Train on a labelled key frame from ``begin`` on, and make the answer."""
        student, trainer = session.student, session.trainer
        # What the robot runs; None where that did not come from here.
        held = session.known(key_frame.weights_checksum)
        in_step = key_frame.weights_checksum == student.weights_checksum()
        back = self._come_back(session, settings, key_frame.frame)
        metric_held = math.nan
        if back is not None or (held is not None and not in_step):
            # An update was lost, or the robot has come back. What is best here is gone on from.
            best = trainer.measure(key_frame.frame, teaching, student.weights())
            if in_step:
                metric_held = best
            elif held is not None:
                metric_held = trainer.measure(key_frame.frame, teaching, held)
                if metric_held >= best:
                    trainer.set_back(held)
                    best, in_step = metric_held, True
            if back is not None and trainer.measure(key_frame.frame, teaching, back) > best:
                trainer.set_back(back)
                in_step = False
        result = trainer(
            key_frame.frame, teaching, on_step,
            lambda: begin + settings.training_seconds - self._clock()
            if settings.training_seconds else math.inf, key_frame.image)
        if in_step:
            metric_held = result.metric_before

        status, packed, base = Status.NOTHING_TO_GAIN, NO_TENSORS, held
        metric_after = metric_held
        if held is None or not in_step or result.changed:
            base = session.initial if held is None else held
            packed, metric_after = self._pack(session, base, settings, result, in_step)
            # The robot judges itself where nobody here knows what it runs.
            if held is None or metric_after > metric_held:
                status = Status.DONE
            else:  # the coding loses all that was gained
                packed, metric_after = NO_TENSORS, metric_held
                trainer.set_back(held)
        weights_checksum = student.weights_checksum()
        if status == Status.DONE:
            session.remember(weights_checksum, _shared(student.weights(), base))
        return WeightUpdate(
            session_id=key_frame.session_id,
            key_frame_number=key_frame.number,
            model_id=key_frame.model_id,
            teacher_id=self.teacher_id,
            teacher=self._name,
            status=status,
            base_checksum=(session.initial_checksum if held is None
                           else key_frame.weights_checksum),
            weights_checksum=weights_checksum,
            tensors=packed,
            label=b'' if held is not None else encode_label(teaching.label),
            classes=trainer.classes,
            metric_before=metric_held,
            metric_after=metric_after,
            threshold=settings.threshold,
            steps=result.steps,
            max_updates=settings.max_updates)

    def _come_back(
            self, session: Session, settings: ServerSettings, frame: np.ndarray) -> Weights | None:
        """
        Find out where a key frame was taken, and replay that place's past from now on.

        :returns: the weights that were left there; None where the robot has not moved, or was not
            there before.
        """
        places, trainer = session.places, session.trainer
        if not settings.places_megabytes:
            places.shrink(0)
            return None
        seen = signature(self._student, frame)
        has_moved = places.has_left(seen)
        if has_moved:
            places.leave(session.student.weights(), session.initial, trainer.kept())
        place = places.enter(seen)
        places.shrink(settings.places_megabytes)
        if not has_moved or not place.weights:
            return None
        trainer.recall(place.kept)
        return {**session.initial, **place.weights}

    def _pack(
            self, session: Session, base: Weights, settings: ServerSettings,
            result: TrainingResult, in_step: bool) -> tuple[PackedTensors, float]:
        """
        Pack what leads from the base to the student, which goes on from what will be unpacked.

        :returns: the tensors, and the metric of the student then.
        """
        student, trainer = session.student, session.trainer
        own, scope = student.weights(), student.tensors(settings.scope)
        sent = {name: tensor for name, tensor in own.items()
                if name in scope or not torch.equal(tensor, base[name])}
        packed = self._code(session, sent, settings.encoding, base)
        if settings.encoding == 'fp32':  # it loses nothing
            return packed, result.metric_after
        metric = trainer.metric()
        if not in_step and metric < result.metric_after - _COARSE:
            packed = self._code(session, sent, 'int8', base)
            metric = trainer.metric()
        return packed, settings.threshold if math.isnan(metric) else metric

    def _code(
            self, session: Session, sent: Weights, encoding: str,
            base: Weights) -> PackedTensors:
        packed = pack(sent, encoding, base)
        try:
            unpacked = unpack(packed, base)
        except UpdateRejected as rejected:
            session.trainer.set_back(session.initial)
            session.trainer.forget()
            raise KeyFrameError(
                f'training gave weights that cannot be sent ({rejected}), so it begins anew: '
                'lower learning_rate, or choose encoding fp32', 'training') from None
        session.student.load_state_dict({**base, **unpacked})
        return packed


def refusal(
        teacher_id: int, teacher: str, session_id: int, number: int, model_id: str,
        error: KeyFrameError) -> WeightUpdate:
    """
    Make the answer to a key frame that is refused.

    :param teacher_id, teacher: who refuses it.
    :param session_id, number, model_id: of the key frame.
    :param error: what :meth:`Server.on_key_frame` raised, or the decoding of the key frame.
    """
    return WeightUpdate(
        session_id, number, model_id, teacher_id, teacher, Status.REFUSED, error.reason,
        str(error), error.needed_seconds)


def _shared(
        weights: Weights, base: Weights
) -> Weights:
    """Return weights that share those of their tensors which are equal with the base."""
    return {name: base[name] if torch.equal(tensor, base[name]) else tensor
            for name, tensor in weights.items()}
