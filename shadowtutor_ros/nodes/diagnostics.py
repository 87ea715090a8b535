"""How student and teacher do as ROS diagnostics, for tools that watch a whole robot."""

from dataclasses import dataclass, field
import math
from typing import Any, Iterable

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from std_msgs.msg import Header

from shadowtutor_ros.msg import RobotStatus, TeacherStatus, TutorStatus

_STATES = {
    TutorStatus.STATE_WAITING_FOR_IMAGES: (DiagnosticStatus.ERROR, 'no images'),
    TutorStatus.STATE_WAITING_FOR_TEACHER: (DiagnosticStatus.WARN, 'no teacher'),
    TutorStatus.STATE_TUTORED: (DiagnosticStatus.OK, 'tutored'),
    TutorStatus.STATE_NO_MASKS: (DiagnosticStatus.ERROR, 'images cannot be processed'),
    TutorStatus.STATE_UPDATE_OVERDUE: (DiagnosticStatus.WARN, 'updates are overdue'),
    TutorStatus.STATE_REFUSED: (DiagnosticStatus.WARN, 'the teacher refuses key frames'),
    TutorStatus.STATE_DISABLED: (DiagnosticStatus.OK, 'disabled'),
}

_VALUES = (
    'mask_rate', 'latency_seconds', 'stride', 'metric_before', 'metric_after', 'weights_version',
    'images_dropped', 'images_lost', 'updates_applied', 'updates_declined', 'updates_lost',
    'updates_rejected', 'key_frames_refused', 'round_trip_seconds', 'bytes_up', 'bytes_down',
    't_si', 't_sd', 't_ti', 't_net', 'key_frame_bytes', 'update_bytes',
    'throughput_lower', 'throughput_upper', 'traffic_lower', 'traffic_upper')


@dataclass
class RobotRecord:
    """
    What a teacher node has done for a robot.

    :ivar name: its namespace.
    :ivar student: its name; empty before it has asked.
    :ivar classes: that it asks for.
    :ivar answered: key frames.
    :ivar refused: key frames, by reason.
    :ivar waiting: key frames that are not answered yet.
    :ivar metric: mean IoU on the last key frame, after training.
    :ivar waiting_seconds: that the last one waited for others.
    :ivar teacher_seconds, training_seconds, total_seconds: for the last one; in all from its
        arrival on.
    :ivar share: of the teaching of the last minute, 0 to 1.
    :ivar memory_bytes: of the key frames that are remembered.
    """

    name: str
    student: str = ''
    classes: tuple[str, ...] = ()
    answered: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    waiting: int = 0
    metric: float = math.nan
    waiting_seconds: float = math.nan
    share: float = math.nan
    teacher_seconds: float = math.nan
    training_seconds: float = math.nan
    total_seconds: float = math.nan
    memory_bytes: int = 0


def teacher_diagnostics(
        robots: Iterable[RobotRecord], name: str, teacher: str, resident_bytes: int,
        header: Header) -> DiagnosticArray:
    """
    Say how a teacher node does: one status for it and one for each robot.

    :param name: of the node, fully qualified.
    :param teacher: what labels the key frames.
    :param resident_bytes: of the process.
    :param header: with the time.
    """
    robots = list(robots)
    served = [robot for robot in robots if robot.student]
    statuses = [DiagnosticStatus(
        level=DiagnosticStatus.OK, name=f'{name}: teaching',
        message=f'{len(served)} of {len(robots)} robots have asked', values=_key_values({
            'teacher': teacher, 'robots': len(robots), 'robots_served': len(served),
            'waiting': sum(robot.waiting for robot in robots),
            'key_frames_answered': sum(robot.answered for robot in robots),
            'key_frames_refused': sum(sum(robot.refused.values()) for robot in robots),
            'resident_megabytes': resident_bytes / 1e6}))]
    for robot in served:
        refused = ', '.join(f'{reason} {count}' for reason, count in robot.refused.items())
        statuses.append(DiagnosticStatus(
            level=DiagnosticStatus.OK if robot.answered or not refused else DiagnosticStatus.WARN,
            name=f"{name}: robot {robot.name or 'without a namespace'}",
            message='answered' if robot.answered else f'refused: {refused}',
            values=_key_values({
                'student': robot.student, 'classes': ', '.join(robot.classes),
                'key_frames_answered': robot.answered, 'refusals': refused,
                'waiting': robot.waiting, 'metric_after': robot.metric,
                'waiting_seconds': robot.waiting_seconds, 'share_of_time': robot.share,
                'teacher_seconds': robot.teacher_seconds,
                'training_seconds': robot.training_seconds, 'total_seconds': robot.total_seconds,
                'replay_megabytes': robot.memory_bytes / 1e6})))
    return DiagnosticArray(header=header, status=statuses)


def teacher_status(
        robots: Iterable[RobotRecord], teacher: str, resident_bytes: int,
        header: Header) -> TeacherStatus:
    """
    Say how a teacher node does, in a message.

    :param teacher, resident_bytes, header: as in :func:`teacher_diagnostics`.
    """
    return TeacherStatus(
        header=header, teacher=teacher, resident_bytes=resident_bytes, robots=[
            RobotStatus(
                name=robot.name, student=robot.student, classes=robot.classes,
                key_frames_waiting=robot.waiting, key_frames_answered=robot.answered,
                refusal_reasons=list(robot.refused), refusal_counts=list(robot.refused.values()),
                metric=robot.metric, waiting_seconds=robot.waiting_seconds,
                teacher_seconds=robot.teacher_seconds, training_seconds=robot.training_seconds,
                total_seconds=robot.total_seconds, share=robot.share,
                memory_bytes=robot.memory_bytes) for robot in robots])


def _key_values(values: dict[str, Any]) -> list[KeyValue]:
    return [KeyValue(key=key, value=value if isinstance(value, str) else f'{value:.6g}')
            for key, value in values.items()]


def to_diagnostics(status: TutorStatus, name: str) -> DiagnosticArray:
    """
    Turn a status into diagnostics.

    :param name: of the node, fully qualified.
    """
    level, message = _STATES[status.state]
    refused = ', '.join(f'{reason} {count}' for reason, count in zip(
        status.refusal_reasons, status.refusal_counts))
    words = {
        'teacher': status.teacher, 'classes': ', '.join(status.classes),
        'classes_on_offer': ', '.join(status.classes_on_offer),
        'classes_refused': status.classes_refused, 'refusals': refused}
    if status.classes_refused and level == DiagnosticStatus.OK:
        level, message = DiagnosticStatus.WARN, 'tutored, but not with the classes asked for'
    values = _key_values({**words, **{key: getattr(status, key) for key in _VALUES}})
    return DiagnosticArray(header=status.header, status=[DiagnosticStatus(
        level=level, name=f'{name}: tutoring', message=message, values=values)])
