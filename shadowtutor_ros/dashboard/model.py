"""
What is known of the students and teachers on the graph: their state, their past, what is wrong.

No ROS here and no web: times are seconds of a steady clock, messages come as dicts and data
classes. Everything that was named by somebody else is cut to one printable line.
"""

from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
import math
from typing import Any

from shadowtutor_ros.classes import ClassesError, ClassTable, load_classes, SHIPPED

#: Samples kept of each student, and the seconds that lie between two at least.
MAX_SAMPLES, SAMPLE_PERIOD = 600, 0.5

#: Seconds after which a node that has said nothing is said to be silent, beside two periods.
SILENCE = 5.0

#: Seconds for which a node that is gone stays on the page.
FAREWELL = 60.0

#: Seconds over which traffic is averaged, and over which losses count as of late.
TRAFFIC_WINDOW, RECENT = 20.0, 60.0

#: Share of images left out by the student above which that is said, and of images that never came
#: above which it is a warning.
DROPPED_SHARE, LOST_SHARE = 0.2, 0.05

#: Lines of a node's log that are kept.
MAX_LINES = 20

#: Numbers of a status that are shown as they are.
_SHOWN = (
    'metric_before', 'metric_after', 'stride', 'min_stride', 'max_stride', 'mask_rate',
    'latency_seconds', 'round_trip_seconds', 'teacher_seconds', 'training_seconds', 'steps',
    'weights_version', 'frames_since_key_frame', 'key_frames_sent', 'updates_applied',
    'updates_lost', 'updates_rejected', 'key_frames_refused', 'images_dropped', 'images_lost',
    'masks_published', 'bytes_up', 'bytes_down', 'key_frame_bytes', 'update_bytes',
    'throughput_lower', 'throughput_upper', 'traffic_lower', 'traffic_upper')

#: What is drawn over time. `traffic` is measured here, in bit/s up and down together.
SERIES = (
    'metric_before', 'metric_after', 'stride', 'mask_rate', 'latency_seconds', 'traffic',
    'throughput_lower', 'throughput_upper', 'traffic_lower', 'traffic_upper')

_COUNTERS = (
    'images_received', 'images_dropped', 'images_lost', 'updates_lost', 'updates_rejected',
    'key_frames_refused', 'bytes_up', 'bytes_down')


@dataclass(frozen=True)
class Warning:
    """
    Something that a person should know, in words.

    :ivar level: 'error', 'warning' or 'note'.
    :ivar text: what is the matter, and what to do where that is known.
    """

    level: str
    text: str


@dataclass(frozen=True)
class Parameter:
    """
    A parameter of a node, as its parameter services describe it.

    :ivar type: 'bool', 'integer', 'double', 'string' or 'string array'.
    :ivar low, high: its range; None where it has none.
    :ivar choices: the values that a string may have.
    """

    name: str
    type: str
    value: Any
    text: str = ''
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    read_only: bool = False


@dataclass(frozen=True)
class SeenStudent:
    """
    A student as the graph shows it.

    :ivar name: of its node, fully qualified.
    :ivar identity: another after a restart.
    :ivar status: topic.
    :ivar key_frames: topic; empty where it is not known.
    :ivar image: topic that it takes images from; empty where it takes none.
    :ivar cameras: publishers of these.
    :ivar views: topics with pictures, by what they show.
    :ivar services: full names, by what they do: 'reset', 'request_key_frame', 'enable'.
    """

    name: str
    identity: Any
    status: str
    key_frames: str = ''
    image: str = ''
    cameras: int = 0
    views: Mapping[str, str] = field(default_factory=dict)
    services: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class SeenTeacher:
    """
    A teacher as the graph shows it.

    :ivar name: of its node, fully qualified.
    :ivar identity: another after a restart.
    :ivar key_frames: topics that it answers.
    """

    name: str
    identity: Any
    key_frames: tuple[str, ...] = ()


class Node:
    """What students and teachers have in common: parameters, a log, the time of the last word."""

    def __init__(self, seen: SeenStudent | SeenTeacher, now: float):
        self.seen = seen
        self.gone_since: float | None = None
        self.last_word = now
        self.parameters: dict[str, Parameter] = {}
        self.lines: deque[tuple[float, str, str]] = deque(maxlen=MAX_LINES)

    @property
    def name(self) -> str:
        """Of the node, fully qualified."""
        return self.seen.name

    def silent_for(self, now: float) -> float:
        """Return the seconds since its last word; 0 where that is not long ago."""
        period = self.parameters.get('status_period')
        wait = SILENCE + 2 * (period.value if period else 1.0)
        silent = now - self.last_word
        return silent if silent > wait else 0.0

    def log(self, now: float, level: str, text: str) -> None:
        """Keep a line of the node's log; one that is there already is renewed."""
        text = shown(text)
        kept = [line for line in self.lines if line[2] != text]
        self.lines = deque([*kept, (now, level, text)], maxlen=MAX_LINES)

    def _describe(self) -> dict[str, Any]:
        return {
            'name': self.name, 'gone': self.gone_since is not None,
            'parameters': [
                {**vars(one), 'text': shown(one.text), 'value': _shown_value(one.value)}
                for one in self.parameters.values() if not one.read_only]}

    def _silence(self, now: float) -> list[Warning]:
        if self.gone_since is not None:
            return [Warning('error', f'{self.name} has ended, or the network has lost it')]
        if silent := self.silent_for(now):
            return [Warning('error', (
                f'{self.name} has said nothing for {silent:.0f} s: it hangs, has died, or the '
                'network is down'))]
        return []


class Student(Node):
    """A student: its status, and how that came to be."""

    def __init__(self, seen: SeenStudent, now: float):
        super().__init__(seen, now)
        self.status: dict[str, Any] = {}
        #: Number and values of each sample: the time, then those of SERIES.
        self.samples: deque[tuple[int, tuple[float | None, ...]]] = deque(maxlen=MAX_SAMPLES)
        self._count = 0
        self._totals: deque[tuple[float, dict[str, int]]] = deque()
        #: The last teacher that answered its topic, once that is gone.
        self.lost_teacher = ''

    def add(self, status: Mapping[str, Any], now: float) -> None:
        """
        Take a status.

        :param status: the fields of TutorStatus by name; ``state`` is the word of a STATE_ in
            small letters.
        """
        if self.status and status['session_id'] != self.status['session_id']:
            self._totals.clear()
        self.status, self.last_word = dict(status), now
        # One that lies beyond the window stays, to count from.
        while len(self._totals) > 1 and self._totals[1][0] < now - RECENT:
            self._totals.popleft()
        if not self._totals or now - self._totals[-1][0] >= SAMPLE_PERIOD:
            self._totals.append((now, {key: status[key] for key in _COUNTERS}))
        if not self.samples or now - self.samples[-1][1][0] >= SAMPLE_PERIOD:
            self._count += 1
            values = {**status, 'traffic': self.traffic}
            self.samples.append((self._count, (
                now, *(_number(values[series]) for series in SERIES))))

    def of_late(self, counter: str, window: float = RECENT) -> int:
        """Return by how much a counter has grown in the last seconds."""
        return self._growth(counter, window)[0]

    @property
    def traffic(self) -> float | None:
        """Payload up and down of the last seconds in bit/s; None at first."""
        up, seconds = self._growth('bytes_up', TRAFFIC_WINDOW)
        down, _ = self._growth('bytes_down', TRAFFIC_WINDOW)
        return 8 * (up + down) / seconds if seconds >= TRAFFIC_WINDOW / 4 else None

    def _growth(self, counter: str, window: float) -> tuple[int, float]:
        if not self._totals:
            return 0, 0.0
        since, before = next(
            (entry for entry in self._totals if entry[0] >= self.last_word - window),
            self._totals[-1])
        return self.status[counter] - before[counter], self.last_word - since

    def samples_after(self, number: int) -> list[tuple[int, tuple[float | None, ...]]]:
        """Return the samples after one that is known by its number; 0: all."""
        return [sample for sample in self.samples if sample[0] > number]

    @property
    def classes(self) -> list[dict[str, Any]]:
        """The classes of the masks: name, colour as '#rrggbb', whether it is chosen from now."""
        names = tuple(self.status.get('classes', ()))
        on_offer = set(self.status.get('classes_on_offer', ()))
        file = self.parameters.get('classes_file')
        colors = _colors(names, file.value if file and file.value in SHIPPED else '')
        return [{'name': shown(name, 200), 'color': color, 'on_offer': name in on_offer}
                for name, color in zip(names, colors)]

    @property
    def wanted(self) -> str:
        """What the student is asked to see, as people type it; empty: what its weights have."""
        values = {name: parameter.value for name, parameter in self.parameters.items()}
        entries = [entry for entry in values.get('classes') or () if entry]
        if not entries:
            return shown(values.get('classes_file') or '')
        text = ('; ' if any(':' in entry for entry in entries) else ', ').join(entries)
        return shown(text, 20000)

    def describe(self) -> dict[str, Any]:
        """Return what seldom changes, for the page."""
        return {
            **self._describe(), 'views': list(self.seen.views),
            'services': list(self.seen.services), 'classes': self.classes, 'wanted': self.wanted,
            'wants': 'classes' in self.parameters}

    def report(self, teachers: Collection['Teacher'], now: float) -> dict[str, Any]:
        """Return how it does now, for the page; without the samples."""
        return {
            **{key: _number(self.status[key]) for key in _SHOWN if key in self.status},
            'state': self.status.get('state', ''), 'traffic': _number(self.traffic),
            'teacher': shown(self.status.get('teacher', '')),
            'warnings': [vars(one) for one in self.warnings(teachers, now)],
            'lines': list(self.lines)}

    def warnings(self, teachers: Collection['Teacher'], now: float) -> list[Warning]:
        """
        Say what is wrong, the worst first.

        :param teachers: that are on the graph.
        """
        if silence := self._silence(now):
            return silence
        if not self.status:
            return [Warning('note', 'no status has come yet')]
        state = self.status['state']
        found = []
        if state == 'disabled':
            found.append(Warning('note', 'disabled: no image is taken; what was learnt is kept'))
        elif state == 'waiting_for_images':
            found.append(Warning('error', self._why_no_images()))
        elif state == 'no_masks':
            found.append(Warning('error', (
                'images come, but none can be processed: see the log below, or of the node')))
        found += self._about_teachers(teachers, state, now)
        found += self._about_losses()
        order = ('error', 'warning', 'note')
        return sorted(found, key=lambda warning: order.index(warning.level))

    def _why_no_images(self) -> str:
        if not self.seen.image:
            return 'no images: it subscribes to none'
        if not self.seen.cameras:
            return (f'no images: nobody publishes {self.seen.image}. Start the camera, or remap '
                    'image to the topic that it has')
        return (f'no images come, though somebody publishes {self.seen.image}: is the camera '
                'paused, or does it offer another quality of service?')

    def _about_teachers(
            self, teachers: Collection['Teacher'], state: str, now: float) -> list[Warning]:
        present = [teacher for teacher in teachers if teacher.gone_since is None]
        mine = [teacher for teacher in present
                if self.seen.key_frames in teacher.seen.key_frames]
        found = []
        if mine:
            self.lost_teacher = ''
            found += self._about_teacher(mine[0], state, now)
        else:
            found.append(Warning('warning', self._why_no_teacher(present)))
        if len(mine) > 1:
            found.append(Warning('warning', (
                f'{len(mine)} teachers answer {self.seen.key_frames}: '
                f"{', '.join(teacher.name for teacher in mine)}. End all but one, or give each "
                'robot a namespace of its own')))
        if refused := self.status['classes_refused']:
            found.append(Warning('warning', f'the classes were refused: {shown(refused)}'))
        return found

    def _about_teacher(self, teacher: 'Teacher', state: str, now: float) -> list[Warning]:
        if silent := teacher.silent_for(now):
            return [Warning('warning', (
                f'the teacher {teacher.name} has said nothing for {silent:.0f} s: masks go on '
                'with what was learnt so far'))]
        if state == 'waiting_for_teacher':
            return [Warning('note', f'{teacher.name} has not answered yet')]
        if state == 'update_overdue':
            return [Warning('warning', (
                f'updates are overdue: {teacher.name} does not answer in time, so masks go on '
                'with what was learnt so far'))]
        if state == 'refused':
            return [Warning('warning', (
                f'{teacher.name} refuses key frames: {self._reasons("refusal")}'))]
        return []

    def _why_no_teacher(self, others: Sequence['Teacher']) -> str:
        if self.lost_teacher:
            return (f'the teacher {self.lost_teacher} is gone: masks go on with what was learnt '
                    'so far, and nothing new is learnt until it is back')
        if others:
            return (f'no teacher answers {self.seen.key_frames}, so nothing is learnt; '
                    f"{others[0].name} answers other robots: put this one's namespace into its "
                    'parameter robots')
        return (f'no teacher answers {self.seen.key_frames}, so nothing is learnt: start one: '
                'ros2 launch shadowtutor_ros teacher.launch.py')

    def _about_losses(self) -> list[Warning]:
        found = []
        if lost := self.of_late('updates_lost'):
            found.append(Warning('warning', (
                f'{_counted(lost, "update")} of the last minute did not come in time: the teacher '
                'is busy, or the link is')))
        if rejected := self.of_late('updates_rejected'):
            found.append(Warning('warning', (
                f'{_counted(rejected, "update")} of the last minute could not be applied: '
                f'{self._reasons("rejection")}')))
        if self.status['state'] != 'refused' and (
                refused := self.of_late('key_frames_refused')):
            found.append(Warning('warning', (
                f'{_counted(refused, "key frame")} of the last minute was refused: '
                f'{self._reasons("refusal")}')))
        received = self.of_late('images_received')
        if lost := self.of_late('images_lost'):
            level = 'warning' if lost > LOST_SHARE * (lost + received) else 'note'
            found.append(Warning(level, (
                f'{_counted(lost, "image")} of the last minute never came: left out by the '
                'camera, or lost between it and the student')))
        dropped = self.of_late('images_dropped')
        if received and dropped / received > DROPPED_SHARE:
            found.append(Warning('note', (
                f'{100 * dropped / received:.0f} % of the images are left out: the camera is '
                'faster than the student, which takes the newest')))
        return found

    def _reasons(self, kind: str) -> str:
        counts = zip(self.status[f'{kind}_reasons'], self.status[f'{kind}_counts'])
        return shown(', '.join(
            f"{reason.replace('_', ' ')} ({count})" for reason, count in counts))


class Teacher(Node):
    """A teacher: what its diagnostics say."""

    def __init__(self, seen: SeenTeacher, now: float):
        super().__init__(seen, now)
        self.summary: dict[str, str] = {}
        #: By the robot's name: level ('ok', 'warning', 'error'), message and values.
        self.robots: dict[str, tuple[str, str, dict[str, str]]] = {}

    def add(self, part: str, level: str, message: str, values: Mapping[str, str],
            now: float) -> None:
        """
        Take one status of its diagnostics.

        :param part: what stands behind the node's name: 'teaching', or 'robot' and a name.
        :param level: 'ok', 'warning' or 'error'.
        """
        self.last_word = now
        if part == 'teaching':
            self.summary = dict(values)
        elif part.startswith('robot ') and len(self.robots) < 1000:
            self.robots[part.removeprefix('robot ')] = level, message, dict(values)

    def describe(self) -> dict[str, Any]:
        """Return what seldom changes, for the page."""
        return self._describe()

    def report(self, now: float) -> dict[str, Any]:
        """Return how it does now, for the page."""
        return {
            'teacher': shown(self.summary.get('teacher', '')),
            'served': _number(self.summary.get('robots_served')),
            'of': _number(self.summary.get('robots')),
            'waiting': _number(self.summary.get('waiting')),
            'answered': _number(self.summary.get('key_frames_answered')),
            'refused': _number(self.summary.get('key_frames_refused')),
            'megabytes': _number(self.summary.get('resident_megabytes')),
            'robots': [{
                'name': shown(name), 'level': level,
                **{key: shown(values.get(key, '')) for key in ('classes', 'refusals')},
                **{key: _number(values.get(key)) for key in (
                    'key_frames_answered', 'waiting', 'metric_after', 'waiting_seconds',
                    'teacher_seconds', 'training_seconds', 'total_seconds', 'share_of_time',
                    'replay_megabytes')}}
                for name, (level, _, values) in sorted(self.robots.items())],
            'warnings': [vars(one) for one in self.warnings(now)],
            'lines': list(self.lines)}

    def warnings(self, now: float) -> list[Warning]:
        """Say what is wrong, the worst first."""
        if silence := self._silence(now):
            return silence
        if not self.summary:
            return [Warning('note', 'it has not said yet how it does')]
        return [Warning(level, f'robot {shown(name)}: {shown(message)}')
                for name, (level, message, _) in sorted(self.robots.items()) if level != 'ok']


class Fleet:
    """
    All students and teachers.

    :ivar version: another whenever something has changed that :meth:`describe` tells.
    """

    def __init__(self) -> None:
        self.students: dict[str, Student] = {}
        self.teachers: dict[str, Teacher] = {}
        self.version = 0

    def node(self, name: str) -> Node | None:
        """Return a student or teacher by the name of its node; None if there is none."""
        return self.students.get(name) or self.teachers.get(name)

    def see(self, students: Sequence[SeenStudent], teachers: Sequence[SeenTeacher],
            now: float) -> list[str]:
        """
        Take what is on the graph.

        :returns: the names of nodes that are new or were started again: their parameters have to
            be read.
        """
        fresh = []
        for known, kind, seen in (
                (self.students, Student, students), (self.teachers, Teacher, teachers)):
            for one in seen:
                node = known.get(one.name)
                if node is None or node.gone_since is not None or (
                        node.seen.identity != one.identity):
                    known[one.name] = self._renewed(node, kind(one, now))
                    fresh.append(one.name)
                    self.version += 1
                elif node.seen != one:
                    node.seen = one
                    self.version += 1
            self._miss(known, {one.name for one in seen}, now)
        return fresh

    @staticmethod
    def _renewed(before: Node | None, node: Node) -> Node:
        """Let a node that was started again keep its past."""
        if before is not None:
            node.lines = before.lines
            node.parameters = before.parameters
        if isinstance(before, Student) and isinstance(node, Student):
            node.samples, node._count = before.samples, before._count
            node.lost_teacher = before.lost_teacher
        return node

    def _miss(self, known: dict[str, Any], present: set[str], now: float) -> None:
        for name in known.keys() - present:
            node = known[name]
            if node.gone_since is None:
                node.gone_since = now
                self.version += 1
                if isinstance(node, Teacher):
                    for student in self.students.values():
                        if student.seen.key_frames in node.seen.key_frames:
                            student.lost_teacher = name
            elif now - node.gone_since > FAREWELL:
                del known[name]
                self.version += 1

    def add_status(self, name: str, status: Mapping[str, Any], now: float) -> None:
        """Take a status of a student; of one that is not known it is dropped."""
        if (student := self.students.get(name)) is not None:
            before = student.classes
            student.add(status, now)
            self.version += before != student.classes

    def add_diagnostics(self, name: str, level: str, message: str, values: Mapping[str, str],
                        now: float) -> None:
        """Take one status of /diagnostics; what is of no teacher here is dropped."""
        node, _, part = name.partition(': ')
        if (teacher := self.teachers.get(node)) is not None:
            teacher.add(part, level, message, values, now)

    def add_line(self, name: str, level: str, text: str, now: float) -> None:
        """Take a line of a node's log; of a node that is not known it is dropped."""
        if (node := self.node(name)) is not None:
            node.log(now, level, text)

    def set_parameters(self, name: str, parameters: Sequence[Parameter]) -> None:
        """Take all parameters of a node, described."""
        if (node := self.node(name)) is not None:
            node.parameters = {parameter.name: parameter for parameter in parameters}
            self.version += 1

    def change_parameters(self, name: str, values: Mapping[str, Any]) -> None:
        """Take new values of a node's parameters; those that are not known are dropped."""
        if (node := self.node(name)) is not None:
            for key in values.keys() & node.parameters.keys():
                node.parameters[key] = Parameter(
                    **{**vars(node.parameters[key]), 'value': values[key]})
                self.version += 1

    def topic(self, name: str, view: str) -> str | None:
        """Return the topic of a view of a student; None if there is none."""
        student = self.students.get(name)
        return student.seen.views.get(view) if student else None

    def describe(self) -> dict[str, Any]:
        """Return what seldom changes of all, for the page, in the order of the names."""
        return {
            'students': [self.students[name].describe() for name in sorted(self.students)],
            'teachers': [self.teachers[name].describe() for name in sorted(self.teachers)]}

    def report(self, now: float) -> dict[str, Any]:
        """Return how all do now, for the page; without the samples."""
        teachers = self.teachers.values()
        return {
            'students': {name: student.report(teachers, now)
                         for name, student in self.students.items()},
            'teachers': {name: teacher.report(now) for name, teacher in self.teachers.items()}}


def shown(text: str, limit: int = 400) -> str:
    """Return text of somebody else as people may read it: one printable line, cut to a length."""
    return ''.join(
        letter if letter.isprintable() else ' ' for letter in str(text)[:limit])


def _shown_value(value: Any) -> Any:
    if isinstance(value, str):
        return shown(value)
    if isinstance(value, (list, tuple)):
        return [_shown_value(one) for one in value[:255]]
    return _number(value) if isinstance(value, float) else value


def _number(value: Any) -> float | int | None:
    """Return a number that JSON has; None for what is none, or not finite."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    return value if value is not None and math.isfinite(value) else None


def _counted(count: int, thing: str) -> str:
    return f'{count} {thing}{"s" if count > 1 else ""}'


@lru_cache(maxsize=64)
def _colors(names: tuple[str, ...], file: str) -> list[str]:
    """
    Return the colours of classes as '#rrggbb'.

    :param file: name of a shipped table, whose colours hold where it has the same names.
    """
    try:
        table = load_classes(file) if file else None
        if table is None or table.names != names:
            table = ClassTable.of(names)
    except ClassesError:
        return ['#808080'] * len(names)
    # Where none is called background, the table has put one in front.
    return ['#%02x%02x%02x' % tuple(color) for color in table.colors[-len(names):]]
