"""The student's state as ROS diagnostics, for tools that watch a whole robot."""

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from shadowtutor_ros.msg import TutorStatus

_STATES = {
    TutorStatus.STATE_WAITING_FOR_IMAGES: (DiagnosticStatus.ERROR, 'no images'),
    TutorStatus.STATE_WAITING_FOR_TEACHER: (DiagnosticStatus.WARN, 'no teacher'),
    TutorStatus.STATE_TUTORED: (DiagnosticStatus.OK, 'tutored'),
    TutorStatus.STATE_NO_MASKS: (DiagnosticStatus.ERROR, 'images cannot be processed'),
    TutorStatus.STATE_UPDATE_OVERDUE: (DiagnosticStatus.WARN, 'updates are overdue'),
    TutorStatus.STATE_REFUSED: (DiagnosticStatus.WARN, 'the teacher refuses key frames'),
}

_VALUES = (
    'mask_rate', 'latency_seconds', 'stride', 'metric_before', 'metric_after', 'weights_version',
    'images_dropped', 'images_lost', 'updates_applied', 'updates_declined', 'updates_lost',
    'updates_rejected', 'key_frames_refused', 'round_trip_seconds', 'bytes_up', 'bytes_down',
    't_si', 't_sd', 't_ti', 't_net', 'key_frame_bytes', 'update_bytes',
    'throughput_lower', 'throughput_upper', 'traffic_lower', 'traffic_upper')


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
    values = [KeyValue(key=key, value=value) for key, value in words.items()]
    values += [KeyValue(key=key, value=f'{getattr(status, key):.6g}') for key in _VALUES]
    return DiagnosticArray(header=status.header, status=[DiagnosticStatus(
        level=level, name=f'{name}: tutoring', message=message, values=values)])
