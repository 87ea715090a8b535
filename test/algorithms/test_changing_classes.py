"""Classes that are asked for while a session runs: the client and the server together."""

import math

import numpy as np
import pytest
from shadowtutor_ros.algorithms.client import Client, ClientSettings
from shadowtutor_ros.algorithms.server import Server, ServerSettings
from shadowtutor_ros.classes import ClassTable, LVS
from shadowtutor_ros.models.student.inference import InferenceEngine
from shadowtutor_ros.models.teachers.base import TeacherPrediction
from shadowtutor_ros.wire.key_frame import KeyFrameError
from shadowtutor_ros.wire.weight_update import Status


class BoxTeacher:
    """Knows the blue boxes of the pictures by some names, and what is dark by another."""

    vocabulary = 'person', 'box', 'crate', 'hole', 'dog'

    def __init__(self):
        self.asked = []

    def __call__(self, frame, classes):
        self.asked.append(classes)
        blue = frame[:, :, 0] > 127
        dark = frame[:, :, 0] < 40
        rows = classes.rows(self.vocabulary)
        box = next((row for row in rows[:3] if row != classes.background), classes.background)
        label = np.full(frame.shape[:2], classes.background, np.uint8)
        label[dark], label[blue] = rows[3], box
        return TeacherPrediction(label, np.array([[20, 10, 60, 50]], np.float32))


class Loop:
    """A client at a camera and its server; each key frame is answered at once, unless lost."""

    def __init__(self, student, pictures, teacher=None, **settings):
        self.student = student
        self.pictures = pictures
        self.teacher = teacher or BoxTeacher()
        self.settings = ServerSettings(threshold=0.97, max_updates=3, **settings)
        self.restart_teacher(0)
        self.key_frames, self.updates, self.masks = [], [], []
        self.client = Client(
            InferenceEngine(student), self.key_frames.append,
            ClientSettings(
                min_stride=2, max_stride=2, stride_rate=0.0, drift=0.0, still=0.0,
                update_timeout=5.0),
            session_id=5, student_id=1)
        self.now = 0.0

    def restart_teacher(self, number=None):
        self.server = Server(
            self.student, self.teacher, self.settings, lambda: 0.0,
            teacher_id=None if number is None else 9)

    def run(self, frames, lost=False):
        """Process frames, each with its mask; returns the answers."""
        answers = []
        for _ in range(frames):
            asked = len(self.key_frames)
            frame = self.pictures[self.client.counters.frames % len(self.pictures)]
            self.masks.append((self.client.on_frame(frame, self.now), self.client.classes))
            self.now += 1.0
            if len(self.key_frames) > asked and not lost:
                answers.append(self.answer(self.key_frames[-1]))
                self.client.on_update(answers[-1], self.now)
            elif lost and len(self.key_frames) > asked:
                self.answer(self.key_frames[-1])
        self.updates += answers
        return answers

    def answer(self, key_frame):
        try:
            return self.server.on_key_frame(key_frame)
        except KeyFrameError as error:
            return self.server.refuse(
                key_frame.session_id, key_frame.number, key_frame.model_id, error)

    @property
    def in_step(self):
        return self.client._weights_checksum == self.server.session.student.weights_checksum()


@pytest.fixture
def loop(student, pictures):
    return Loop(student, pictures)


def table(*entries):
    return ClassTable.of(entries)


def test_classes_that_are_asked_for_come_with_the_next_answer(loop):
    loop.run(3)
    assert loop.client.classes == LVS and loop.in_step
    wanted = table('box', 'hole')
    loop.client.want(wanted)
    answers = loop.run(2)
    assert answers[0].status == Status.DONE and not answers[0].label
    assert loop.client.classes == wanted == loop.server.session.classes and loop.in_step
    masks = loop.masks[-2:]
    assert [classes for _, classes in masks] in ([LVS, wanted], [wanted, wanted])
    assert loop.teacher.asked[-1].names == wanted.names


def test_masks_are_always_of_the_table_that_the_client_names(loop):
    for entries in (('box',), ('person', 'hole', 'dog'), ('crate: box, crate', 'dog')):
        loop.client.want(table(*entries))
        loop.run(5)
    assert len({classes.digest for _, classes in loop.masks}) == 3
    for mask, classes in loop.masks:
        assert mask.max() < len(classes)


def test_what_is_learnt_stays_and_what_is_new_is_learnt(loop):
    loop.pictures, loop.settings.max_updates = loop.pictures[:2], 12
    loop.run(8)
    loop.client.want(table('person', 'hole'))
    answers = loop.run(20)
    assert answers[-1].metric_after > answers[0].metric_before + 0.2
    assert loop.client.offered == (0, 1, 2)
    assert {place for mask, classes in loop.masks[-5:] for place in np.unique(mask)} == {0, 1, 2}


def test_a_class_that_nobody_has_learnt_is_not_chosen(loop):
    loop.run(3)
    loop.client.want(table('person', 'dog', 'crate: crate'))
    loop.run(2)
    assert loop.client.classes.names[2] == 'dog'
    # dog is of the weights file, crate of nobody, and is not seen, as person claims the boxes.
    assert 3 not in loop.client.offered
    loop.client.connected = False
    loop.run(1)
    assert loop.client.offered == (0, 1, 2)


def test_an_unknown_name_is_refused_with_the_nearest_and_the_robot_goes_on(loop):
    loop.client.want(table('box', 'hole'))
    loop.run(4)
    before = loop.client.classes
    loop.client.want(table('boks', 'hole'))
    answers = loop.run(2)
    assert answers[0].status == Status.REFUSED and answers[0].refusal == 'classes'
    assert "'boks' (but box)" in answers[0].text and 'person, box, crate' in answers[0].text
    assert loop.client.classes_refused == answers[0].text
    assert loop.client.classes == before and loop.client.wanted == before
    assert loop.run(4)[-1].status != Status.REFUSED and loop.in_step
    # Another wish makes that forgotten.
    loop.client.want(table('crate'))
    loop.run(4)
    assert loop.client.classes.names == ('background', 'crate')
    assert loop.client.classes_refused == ''


def test_names_of_the_weights_file_are_not_refused(loop):
    loop.client.want(table('person', 'giraffe'))
    assert loop.run(1)[0].status != Status.REFUSED


def test_another_teacher_is_asked_again(loop):
    loop.client.want(table('forklift'))
    loop.run(4)
    assert loop.client.classes_refused and loop.client.classes == LVS
    loop.teacher.vocabulary = (*BoxTeacher.vocabulary, 'forklift')
    loop.restart_teacher()
    loop.client.forget_teacher()
    loop.run(4)
    assert loop.client.classes.names == ('background', 'forklift')


def test_a_robot_alone_takes_over_what_it_is_asked_for_at_once(loop):
    loop.client.connected = False
    loop.run(1)
    loop.client.want(table('crate', 'auto', 'person'))
    loop.run(1)
    assert loop.client.classes.names == ('background', 'crate', 'auto', 'person')
    assert loop.client.offered == (0, 2, 3), 'nobody has learnt crate'
    assert loop.key_frames == []


def test_before_the_first_frame_they_are_taken_over_at_once(loop):
    loop.client.want(table('person'))
    loop.run(1)
    assert loop.masks[0][1].names == ('background', 'person')


def test_lost_answers_cost_nothing_but_time(loop):
    loop.run(6)
    loop.client.want(table('box', 'person'))
    loop.run(3, lost=True)
    assert loop.client.classes == LVS
    loop.now += 10
    answers = loop.run(8)
    assert loop.client.classes.names == ('background', 'box', 'person')
    assert all(not answer.label for answer in answers), 'the server knew what the robot ran'
    assert loop.in_step


def test_a_change_that_is_taken_back_before_an_answer_came(loop):
    loop.run(6)
    loop.client.want(table('box', 'person'))
    loop.run(2, lost=True)
    loop.client.want(LVS)
    loop.now += 10
    answers = loop.run(6)
    assert loop.client.classes == LVS and loop.in_step
    assert all(not answer.label for answer in answers)


def test_a_restarted_teacher_is_told_again(loop):
    wanted = table('box', 'hole')
    loop.client.want(wanted)
    loop.run(6)
    loop.restart_teacher(0)
    answers = loop.run(8)
    assert answers[0].refusal == 'table' and answers[1].status == Status.DONE
    assert answers[1].label, 'it does not know what the robot runs'
    assert loop.client.classes == wanted and loop.client.counters.updates_rejected == {}


def test_the_table_travels_until_it_was_answered(loop):
    loop.run(3)
    assert all(key_frame.classes == () for key_frame in loop.key_frames)
    wanted = table('box', 'crate: crate, hole')
    loop.client.want(wanted)
    first = len(loop.key_frames)
    loop.run(8)
    told = [key_frame.classes for key_frame in loop.key_frames[first:]]
    assert told[0] == wanted.entries and set(told[1:]) == {()}
    assert {key_frame.classes_digest for key_frame in loop.key_frames[first:]} == {wanted.digest}
    assert {key_frame.background for key_frame in loop.key_frames[first:]} == {0}


@pytest.mark.parametrize('classes, background, text', [
    (('a', 'a'), 0, 'twice'), (('a',), 0, 'wanted 2'), (('a', 'b'), 7, 'background'),
    (('x',) * 300, 0, 'too many'), (('a:b:c', 'b'), 1, 'no name'), (('a', 'b'), 0, 'digest')])
def test_a_table_that_cannot_be_is_refused(loop, classes, background, text):
    from dataclasses import replace
    loop.run(1)
    forged = replace(
        loop.key_frames[0], number=2, classes_digest=7, classes=classes, background=background)
    with pytest.raises(KeyFrameError, match=text) as caught:
        loop.server.on_key_frame(forged)
    assert caught.value.reason == 'classes'
    assert loop.server.session.classes == LVS


def test_robots_with_different_tables_share_a_teacher(student, pictures):
    teacher = BoxTeacher()
    loops = [Loop(student, pictures, teacher) for _ in range(2)]
    for one, entries in zip(loops, (('box',), ('person', 'hole'))):
        one.client.want(table(*entries))
    for _ in range(6):
        for one in loops:
            one.run(1)
    assert [one.client.classes.names[1:] for one in loops] == [('box',), ('person', 'hole')]
    assert all(one.in_step for one in loops)


def test_other_colours_and_ids_are_nobody_elses_business(loop):
    wanted = table('box', 'hole')
    loop.client.want(wanted)
    loop.run(4)
    asked = len(loop.key_frames)
    again = ClassTable.of(('box', 'hole'), ids={0: 40, 1: 50}, colors={0: (1, 2, 3)})
    loop.client.want(again)
    loop.run(1)
    assert loop.client.classes == again and loop.client.classes.ids == (0, 40, 50)
    assert len(loop.key_frames) <= asked + 1 and loop.in_step


def test_memory_of_tables_is_bounded(loop):
    for index in range(12):
        loop.client.want(table('box', f'person: {"hole" if index % 2 else "dog"}', 'crate'))
        loop.client.want(table('box', *BoxTeacher.vocabulary[2:2 + index % 3]))
        loop.run(3)
    assert len(loop.server.session.tables) <= 4 and LVS.digest in loop.server.session.tables


def test_the_mask_of_a_key_frame_is_judged_by_its_names(loop):
    """A restarted teacher sends the label; the mask that it is compared with has other places."""
    loop.run(10)
    loop.client.want(ClassTable.of((*LVS.names[::-1], 'hole')))
    loop.restart_teacher(0)
    answer, = loop.run(2)
    assert answer.label and math.isnan(answer.metric_before)
    assert loop.client.last_update.metric_before > 0.3, 'the person of before is one of now'
