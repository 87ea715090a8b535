"""What the dashboard knows of robots: no ROS, no web."""

import json
import math

import pytest
from shadowtutor_ros.classes import LVS
from shadowtutor_ros.dashboard.model import (
    FAREWELL, Fleet, MAX_LINES, MAX_SAMPLES, Parameter, SeenStudent, SeenTeacher, SERIES)

STUDENT = SeenStudent(
    '/r1/student', 1, '/r1/student/status', '/r1/key_frames', '/r1/image', 1,
    {'overlay': '/r1/segmentation/overlay'}, {'reset': '/r1/student/reset'})
TEACHER = SeenTeacher('/teacher', 7, ('/r1/key_frames', '/r2/key_frames'))


def status(**changes):
    """Return the fields of a status as ROS gives them: what is not known is NaN."""
    counters = ('images_received', 'images_dropped', 'images_lost', 'masks_published',
                'key_frames_sent', 'updates_applied', 'updates_lost', 'updates_rejected',
                'key_frames_refused', 'bytes_up', 'bytes_down')
    numbers = ('metric_before', 'metric_after', 'latency_seconds', 'throughput_lower',
               'throughput_upper', 'traffic_lower', 'traffic_upper')
    return {
        **dict.fromkeys(counters, 0), **dict.fromkeys(numbers, math.nan), 'state': 'tutored',
        'session_id': 1, 'teacher': '/teacher', 'classes': ['background', 'person', 'dog'],
        'classes_on_offer': ['background', 'dog'], 'classes_refused': '', 'stride': 8,
        'mask_rate': 10.0, 'refusal_reasons': [], 'refusal_counts': [], 'rejection_reasons': [],
        'rejection_counts': [], **changes}


@pytest.fixture
def fleet():
    """Return a fleet of one student and its teacher."""
    fleet = Fleet()
    assert fleet.see([STUDENT], [TEACHER], 0.0) == ['/r1/student', '/teacher']
    fleet.add_diagnostics('/teacher: teaching', 'ok', 'fine', {'teacher': 'scene'}, 0.0)
    return fleet


def words(fleet, now, name='/r1/student'):
    """Return the warnings of a node as (level, text)."""
    report = fleet.report(now)
    kind = 'students' if name in report['students'] else 'teachers'
    return [(one['level'], one['text']) for one in report[kind][name]['warnings']]


def test_all_is_json_without_nan_and_quiet_where_nothing_is_wrong(fleet):
    fleet.add_status('/r1/student', status(), 1.0)
    fleet.set_parameters('/r1/student', [Parameter('drift', 'double', math.inf, low=0, high=1)])
    text = json.dumps([fleet.describe(), fleet.report(1.0), list(
        fleet.students['/r1/student'].samples)], allow_nan=False)
    assert '/r1/student' in text
    assert words(fleet, 1.0) == []
    assert words(fleet, 1.0, '/teacher') == []


def test_history_is_bounded_and_told_once(fleet):
    for step in range(2 * MAX_SAMPLES):
        fleet.add_status('/r1/student', status(stride=step), step / 1.0)
    student = fleet.students['/r1/student']
    assert len(student.samples) == MAX_SAMPLES
    number, values = student.samples[-1]
    assert values[1 + SERIES.index('stride')] == 2 * MAX_SAMPLES - 1
    assert student.samples_after(number) == []
    assert len(student.samples_after(number - 3)) == 3
    # Statuses that come faster than is drawn do not shorten what is remembered.
    fleet.add_status('/r1/student', status(), 2 * MAX_SAMPLES - 0.9)
    assert student.samples_after(number) == []


def test_traffic_is_measured_over_a_window_and_begins_anew_with_a_session(fleet):
    student = fleet.students['/r1/student']
    for second in range(41):
        up = 1000 * min(second, 20)
        fleet.add_status('/r1/student', status(bytes_up=up, bytes_down=up // 2), float(second))
        if second == 20:
            assert student.traffic == pytest.approx(8 * 1500)
    assert student.traffic == 0
    fleet.add_status('/r1/student', status(session_id=2, bytes_up=10), 41.0)
    assert student.traffic is None


@pytest.mark.parametrize('changes, level, text', [
    ({'state': 'waiting_for_images'}, 'error', 'though somebody publishes /r1/image'),
    ({'state': 'no_masks'}, 'error', 'none can be processed'),
    ({'state': 'waiting_for_teacher'}, 'note', '/teacher has not answered yet'),
    ({'state': 'update_overdue'}, 'warning', 'updates are overdue: /teacher'),
    ({'state': 'disabled'}, 'note', 'no image is taken'),
    ({'state': 'refused', 'refusal_reasons': ['classes'], 'refusal_counts': [3]}, 'warning',
     '/teacher refuses key frames: classes (3)'),
    ({'classes_refused': 'it does not know zebu'}, 'warning', 'it does not know zebu'),
])
def test_what_a_status_says_is_said_in_words(fleet, changes, level, text):
    fleet.add_status('/r1/student', status(**changes), 1.0)
    assert [(found, text in said) for found, said in words(fleet, 1.0)] == [(level, True)]


@pytest.mark.parametrize('counter, level, text', [
    ('updates_lost', 'warning', '2 updates of the last minute did not come in time'),
    ('updates_rejected', 'warning', 'could not be applied: checksum (2)'),
    ('key_frames_refused', 'warning', 'was refused: busy (2)'),
    ('images_lost', 'note', '2 images of the last minute never came'),
])
def test_what_is_lost_is_said_for_a_minute(fleet, counter, level, text):
    reasons = {'rejection_reasons': ['checksum'], 'rejection_counts': [2],
               'refusal_reasons': ['busy'], 'refusal_counts': [2]}
    fleet.add_status('/r1/student', status(**{counter: 5}), 0.0)
    assert words(fleet, 0.0) == []  # it was so before anybody looked
    fleet.add_status('/r1/student', status(**{counter: 7}, images_received=100, **reasons), 1.0)
    assert [(found, text in said) for found, said in words(fleet, 1.0)] == [(level, True)]
    for second in range(2, 70):
        fleet.add_status('/r1/student', status(**{counter: 7}, images_received=200), second)
        fleet.teachers['/teacher'].last_word = second
    assert words(fleet, 69.0) == []


def test_a_camera_that_is_too_fast_or_missing_is_named(fleet):
    fleet.add_status('/r1/student', status(), 0.0)
    fleet.add_status('/r1/student', status(images_received=100, images_dropped=50), 1.0)
    assert words(fleet, 1.0)[0][1].startswith('50 % of the images are left out')
    fleet.see([SeenStudent(**{**vars(STUDENT), 'cameras': 0})], [TEACHER], 1.0)
    fleet.add_status('/r1/student', status(state='waiting_for_images', session_id=2), 2.0)
    assert 'nobody publishes /r1/image' in words(fleet, 2.0)[0][1]


def test_silence_is_said_after_a_while(fleet):
    fleet.add_status('/r1/student', status(), 1.0)
    assert words(fleet, 5.0) == []
    assert words(fleet, 21.0) == [('error', (
        '/r1/student has said nothing for 20 s: it hangs, has died, or the network is down'))]
    # Who speaks once a minute is not silent after 20 s.
    fleet.teachers['/teacher'].last_word = 20.0
    fleet.set_parameters('/r1/student', [Parameter('status_period', 'double', 60.0)])
    assert words(fleet, 21.0) == []


def test_a_teacher_that_is_silent_is_missed_before_the_graph_knows(fleet):
    for second in range(20):
        fleet.add_status('/r1/student', status(state='update_overdue'), float(second))
    assert words(fleet, 19.0) == [('warning', (
        'the teacher /teacher has said nothing for 19 s: masks go on with what was learnt so '
        'far'))]


def test_a_teacher_that_is_gone_is_missed_until_it_is_back(fleet):
    fleet.add_status('/r1/student', status(), 1.0)
    fleet.see([STUDENT], [], 2.0)
    said = words(fleet, 2.0)
    assert said == [('warning', (
        'the teacher /teacher is gone: masks go on with what was learnt so far, and nothing new '
        'is learnt until it is back'))]
    assert fleet.describe()['teachers'][0]['gone']
    assert 'has ended' in words(fleet, 2.0, '/teacher')[0][1]
    assert fleet.see([STUDENT], [SeenTeacher('/teacher', 8, TEACHER.key_frames)], 3.0) == [
        '/teacher']
    assert words(fleet, 3.0) == []


def test_a_teacher_of_others_and_two_teachers_are_named(fleet):
    fleet.add_status('/r1/student', status(), 1.0)
    fleet.see([STUDENT], [TEACHER, SeenTeacher('/other', 9, ('/r1/key_frames',))], 1.0)
    assert '2 teachers answer /r1/key_frames: /teacher, /other' in words(fleet, 1.0)[0][1]
    alone = Fleet()
    alone.see([STUDENT], [SeenTeacher('/other', 9, ('/r9/key_frames',))], 1.0)
    alone.add_status('/r1/student', status(), 1.0)
    assert '/other answers other robots' in words(alone, 1.0)[0][1]
    alone.see([STUDENT], [], 2.0)
    assert 'the teacher /other' not in words(alone, 2.0)[0][1]  # it was never this one's
    assert 'start one: ros2 launch' in words(alone, 2.0)[0][1]


def test_what_is_gone_goes_from_the_page_and_what_comes_again_keeps_its_past(fleet):
    fleet.add_status('/r1/student', status(), 1.0)
    fleet.see([], [TEACHER], 2.0)
    assert fleet.describe()['students'][0]['gone']
    assert fleet.see([SeenStudent(**{**vars(STUDENT), 'identity': 2})], [TEACHER], 3.0) == [
        '/r1/student']
    fleet.add_status('/r1/student', status(session_id=2), 4.0)
    assert len(fleet.students['/r1/student'].samples) == 2
    number = fleet.students['/r1/student'].samples[-1][0]
    assert number == 2  # browsers ask for what comes after a number
    fleet.see([], [TEACHER], 5.0)
    fleet.see([], [TEACHER], 6.0 + FAREWELL)
    assert fleet.describe()['students'] == []


def test_a_change_on_the_graph_is_a_new_version(fleet):
    fleet.add_status('/r1/student', status(), 1.0)
    version = fleet.version
    fleet.see([STUDENT], [TEACHER], 2.0)
    fleet.add_status('/r1/student', status(), 2.0)
    assert fleet.version == version
    fleet.add_status('/r1/student', status(classes=['background', 'cat']), 3.0)
    assert fleet.version > version


def test_classes_have_the_colours_of_their_masks(fleet):
    fleet.add_status('/r1/student', status(), 1.0)
    background, person, dog = fleet.describe()['students'][0]['classes']
    assert background == {'name': 'background', 'color': '#000000', 'on_offer': True}
    assert person == {'name': 'person', 'color': '#dc143c', 'on_offer': False}
    assert dog == {'name': 'dog', 'color': '#ff7800', 'on_offer': True}
    fleet.add_status('/r1/student', status(classes=list(LVS.names)), 2.0)
    assert [one['color'] for one in fleet.describe()['students'][0]['classes']] == [
        '#%02x%02x%02x' % color for color in LVS.colors]


def test_what_others_say_is_one_printable_line_of_bounded_length(fleet):
    evil = '\u202e<script>\n' + 'x' * 5000
    fleet.add_status('/r1/student', status(
        classes=['background', evil], classes_refused=evil, teacher=evil), 1.0)
    fleet.add_line('/r1/student', 'error', evil, 1.0)
    fleet.add_diagnostics('/teacher: robot ' + evil, 'warning', evil, {'classes': evil}, 1.0)
    fleet.set_parameters('/r1/student', [
        Parameter('classes', 'string array', [evil]), Parameter('teacher', 'string', evil)])
    text = json.dumps([fleet.describe(), fleet.report(1.0)], ensure_ascii=False)
    assert '<script>' in text  # the page sets it as text
    assert '\u202e' not in text
    assert '\\n' not in text
    assert 'x' * 500 not in text.replace(fleet.students['/r1/student'].wanted, '')


def test_the_log_is_bounded_and_says_nothing_twice(fleet):
    for number in range(3 * MAX_LINES):
        fleet.add_line('/r1/student', 'warning', f'line {number % (2 * MAX_LINES)}', number)
    fleet.add_line('/r1/student', 'warning', 'line 19', 100.0)
    lines = fleet.report(100.0)['students']['/r1/student']['lines']
    assert len(lines) == MAX_LINES
    assert lines[-1] == (100.0, 'warning', 'line 19')
    assert sum(text == 'line 19' for _, _, text in lines) == 1


def test_parameters_are_shown_and_change(fleet):
    fleet.set_parameters('/r1/student', [
        Parameter('drift', 'double', 0.3, 'of the scene', 0.0, 10.0),
        Parameter('device', 'string', 'cpu', read_only=True),
        Parameter('classes', 'string array', ['dog', 'auto: car, bus']),
        Parameter('classes_file', 'string', '')])
    version = fleet.version
    fleet.change_parameters('/r1/student', {'drift': 0.5, 'not_known': 1})
    assert fleet.version > version
    described = fleet.describe()['students'][0]
    assert [(one['name'], one['value']) for one in described['parameters']] == [
        ('drift', 0.5), ('classes', ['dog', 'auto: car, bus']), ('classes_file', '')]
    assert described['parameters'][0]['high'] == 10.0
    assert described['wanted'] == 'dog; auto: car, bus'


def test_a_teacher_says_how_it_does_with_each_robot(fleet):
    fleet.add_diagnostics('/teacher: robot /r1', 'warning', 'refused: classes 3', {
        'metric_after': 'nan', 'key_frames_answered': '4', 'waiting': 'many',
        'waiting_seconds': '0.25', 'share_of_time': '0.4', 'refusals': 'classes 3\n'}, 1.0)
    fleet.add_diagnostics('/nobody: robot /r1', 'error', 'x', {}, 1.0)
    report = fleet.report(1.0)['teachers']['/teacher']
    assert report['robots'][0]['key_frames_answered'] == 4
    assert report['robots'][0]['metric_after'] is None
    assert report['robots'][0]['waiting'] is None
    assert report['robots'][0]['waiting_seconds'] == 0.25
    assert report['robots'][0]['share_of_time'] == 0.4
    assert report['robots'][0]['refusals'].strip('? ') == 'classes 3'
    assert words(fleet, 1.0, '/teacher') == [
        ('warning', 'robot /r1: refused: classes 3')]
