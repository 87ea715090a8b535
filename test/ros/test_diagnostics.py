"""The student's state as diagnostics."""

from diagnostic_msgs.msg import DiagnosticStatus
import pytest

from shadowtutor_ros.msg import TutorStatus
from shadowtutor_ros.nodes.diagnostics import to_diagnostics

STATES = [name for name in dir(TutorStatus) if name.startswith('STATE_')]


@pytest.mark.parametrize('name', STATES)
def test_every_state_has_a_level_and_words(name):
    status = TutorStatus(state=getattr(TutorStatus, name), stride=12)
    status.header.stamp.sec = 7
    array = to_diagnostics(status, '/robot/student')
    assert array.header.stamp.sec == 7
    shown, = array.status
    assert shown.name == '/robot/student: tutoring' and shown.message
    assert (shown.level == DiagnosticStatus.OK) == (name in ('STATE_TUTORED', 'STATE_DISABLED'))
    assert {value.key: value.value for value in shown.values}['stride'] == '12'
