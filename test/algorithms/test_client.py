import copy
from dataclasses import replace
import math
import zlib

import numpy as np
import pytest
from shadowtutor_ros.algorithms.client import Client, ClientSettings, MAX_LABEL
from shadowtutor_ros.metrics import mean_iou
from shadowtutor_ros.models.student.base import checksum
from shadowtutor_ros.models.student.inference import InferenceEngine
from shadowtutor_ros.wire.key_frame import encode_label
from shadowtutor_ros.wire.weight_update import (
    most_bytes, NO_TENSORS, pack, REFUSALS, REJECTION_REASONS, Status, UpdateRejected,
    WeightUpdate)
import torch

FRAME = np.zeros((64, 96, 3), np.uint8)


class Robot:
    """A client with what it did, in order: frames, key frames; a frame a second."""

    def __init__(self, student, period=1.0, **settings):
        self.period = period
        self.settings = ClientSettings(**{
            'update_timeout': 100.0, 'min_stride': 8, 'stride_rate': 0.0, 'drift': 0.0,
            'still': 0.0, **settings})
        self.events = []
        self.key_frames = []
        self.engine = InferenceEngine(student)
        self.client = Client(self, self._send, self.settings, student_id=6, name='/student')
        self.now = 0.0
        self.features = torch.ones(1, 128, 2, 3)
        self.mask = np.zeros(FRAME.shape[:2], np.uint8)

    # What the client uses of an engine; a constant mask instead of an inference saves time.

    encoder_version = 0

    @property
    def student(self):
        return self.engine.student

    @property
    def classes(self):
        return self.engine.classes

    def change_classes(self, weights, classes):
        self.engine.change_classes(weights, classes)

    @property
    def states(self):
        """Return the checksums of all weights that are kept."""
        kept = [one.bases for one in self.client._unanswered.values()]
        return {self.client._weights_checksum, self.client._initial_checksum, *sum(
            map(list, kept), [])}

    def swap(self, tensors):
        self.engine.swap(tensors)

    def restrict(self, classes):
        self.engine.restrict(classes)

    def __call__(self, frame):
        self.events.append('infer')
        return self.mask

    def _send(self, key_frame):
        self.events.append('send')
        self.key_frames.append(key_frame)

    def run(self, frames):
        """Process frames and return which of them, counted from the start, were key frames."""
        before = len(self.key_frames)
        for _ in range(frames):
            self.client.on_frame(FRAME, self.now)
            self.now += self.period
        return [key_frame.frame_index for key_frame in self.key_frames[before:]]

    def run_to_key_frame(self):
        """Process frames up to a key frame and return its index."""
        while not (indices := self.run(1)):
            pass
        return indices[0]

    def update(self, update):
        self.client.on_update(update, self.now)

    def state(self):
        """Return what must not change where an update is rejected."""
        client = self.client
        return (
            {name: tensor.numpy().tobytes() for name, tensor in self.student.state_dict().items()},
            client.weights_version, client.counters.updates_applied, client.last_update,
            client.round_trip)


@pytest.fixture
def robot(student):
    return Robot(student)


TEACHER = 77


def metric_alone(key_frame, metric=0.8, **changes):
    return replace(WeightUpdate(
        session_id=key_frame.session_id, key_frame_number=key_frame.number,
        model_id=key_frame.model_id, teacher_id=TEACHER, teacher='/teacher',
        status=Status.NOTHING_TO_GAIN, base_checksum=key_frame.weights_checksum,
        weights_checksum=key_frame.weights_checksum, classes=tuple(range(9)),
        metric_before=metric, metric_after=metric, threshold=0.8, steps=0, max_updates=8,
        teacher_seconds=0.2, training_seconds=0.1), **changes)


def new_weights(key_frame, student, scope='partial', metric=0.8, encoding='fp32', base=None,
                **changes):
    """Answer with other weights, which differ from answer to answer."""
    generator = torch.Generator().manual_seed(key_frame.number)
    base = student.weights() if base is None else base
    tensors = {
        name: (base[name] + torch.rand(tensor.shape, generator=generator)).half().float()
        for name, tensor in student.tensors(scope).items()}
    return replace(
        metric_alone(key_frame, metric), status=Status.DONE, base_checksum=checksum(base),
        weights_checksum=checksum({**base, **tensors}), steps=3,
        tensors=pack(tensors, encoding, base), **changes)


def refused(key_frame, reason, **changes):
    return replace(WeightUpdate(
        key_frame.session_id, key_frame.number, key_frame.model_id, TEACHER, '/teacher',
        Status.REFUSED, reason, 'since it is so'), **changes)


# --- striding -----------------------------------------------------------------------------------

def test_the_first_frame_is_a_key_frame(robot):
    assert robot.run(1) == [0]
    key_frame = robot.key_frames[0]
    assert key_frame.session_id == robot.client.session_id > 0
    assert (key_frame.number, key_frame.weights_version) == (1, 0)
    assert key_frame.model_id == robot.student.model_id
    assert key_frame.weights_checksum == robot.student.weights_checksum()
    assert key_frame.frame is FRAME
    assert (key_frame.student_id, key_frame.student) == (6, '/student')


def test_a_key_frame_is_sent_before_its_inference(robot):
    robot.run(2)
    assert robot.events == ['send', 'infer', 'infer']


def test_every_frame_has_a_mask(robot):
    mask = robot.client.on_frame(FRAME, 0.0)
    assert mask.shape == FRAME.shape[:2] and mask.dtype == np.uint8
    robot.run(30)
    assert robot.events.count('infer') == robot.client.counters.frames == 31


def test_sessions_differ(student):
    assert Robot(student).client.session_id != Robot(student).client.session_id


def test_key_frames_are_a_stride_apart(robot):
    indices = robot.run(1)
    for _ in range(4):
        robot.update(metric_alone(robot.key_frames[-1], 0.8))  # keeps the stride at 8
        indices += robot.run(8)
    assert indices == [0, 8, 16, 24, 32]
    assert robot.client.counters.key_frames_sent == 5
    assert [key_frame.number for key_frame in robot.key_frames] == [1, 2, 3, 4, 5]


def test_the_stride_follows_the_metric(robot):
    robot.run(1)
    strides = []
    for metric in (1.0, 1.0, 0.9, 1.0, 1.0, 0.4, 0.8, 0.0, 0.1):
        robot.update(metric_alone(robot.key_frames[-1], metric))
        strides.append(robot.client.stride)
        distance = robot.client.stride
        start = robot.key_frames[-1].frame_index
        assert robot.run(distance) == [start + distance]
    # Floats round 2 times 8 and 1.5 times 32 down, at times.
    for stride, wanted in zip(strides, (16, 32, 48, 64, 64, 32, 32, 8, 8)):
        assert wanted - 3 <= stride <= wanted


def test_the_update_says_the_threshold(robot):
    robot.run(1)
    robot.update(metric_alone(robot.key_frames[0], 0.6, threshold=0.2))
    assert robot.client.stride == 12


def test_a_late_stride_counts_from_its_key_frame(robot):
    robot.run(6)
    robot.update(metric_alone(robot.key_frames[0], 0.8))
    assert robot.run(10) == [8]


def test_a_stride_that_is_over_when_it_comes_makes_a_key_frame_at_once(robot):
    robot.run(21)
    robot.update(metric_alone(robot.key_frames[0], 0.8))
    assert robot.run(3) == [21]


def test_limits_changed_at_run_time_hold_at_once(robot):
    robot.run(1)
    robot.update(metric_alone(robot.key_frames[0], 1.0))
    assert robot.client.stride in (15, 16)
    robot.settings.min_stride = 24
    assert robot.run(24) == [24]
    robot.update(metric_alone(robot.key_frames[-1], 0.8))
    assert robot.client.stride == 24
    robot.settings.min_stride, robot.settings.max_stride = 1, 5
    assert robot.run(5) == [29]
    robot.update(metric_alone(robot.key_frames[-1], 1.0))
    assert robot.client.stride == 5
    robot.settings.max_stride = 64
    assert robot.run(5) == [34]


# --- updates ------------------------------------------------------------------------------------

@pytest.mark.parametrize('encoding', ['fp32', 'fp16'])
@pytest.mark.parametrize('scope', ['partial', 'full'])
def test_weights_are_swapped_in(robot, scope, encoding):
    robot.run(3)
    update = new_weights(robot.key_frames[0], robot.student, scope, encoding=encoding)
    before = robot.student.weights_checksum()
    robot.update(update)
    assert robot.student.weights_checksum() == update.weights_checksum != before
    client = robot.client
    assert (client.weights_version, client.counters.updates_applied) == (1, 1)
    assert client.last_update is update and client.round_trip == 3.0
    assert not client.awaiting_update and not client.overdue

    robot.run(8)
    key_frame = robot.key_frames[1]
    assert (key_frame.weights_version, key_frame.weights_checksum) == (1, update.weights_checksum)


def test_the_metric_alone_changes_no_weights(robot):
    robot.run(1)
    before = robot.student.weights_checksum()
    robot.update(metric_alone(robot.key_frames[0], 0.9))
    assert robot.student.weights_checksum() == before
    assert robot.client.weights_version == 0 and robot.client.counters.updates_applied == 1


def test_inference_uses_the_new_weights(student):
    engine, sent = InferenceEngine(student), []
    client = Client(engine, sent.append, ClientSettings())
    frame = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    before = client.on_frame(frame, 0.0)
    update = new_weights(sent[0], engine.student)
    client.on_update(update, 1.0)
    after = client.on_frame(frame, 1.0)
    assert (before != after).any()
    assert (after == InferenceEngine(engine.student)(frame)).all()


def test_no_second_key_frame_while_one_is_awaited(robot):
    assert robot.run(99) == [0]
    assert robot.client.awaiting_update and not robot.client.overdue


def test_an_overdue_update_counts_as_lost(robot):
    robot.settings.update_timeout = 20.0
    assert robot.run(20) == [0]
    assert robot.client.counters.updates_lost == 0
    assert robot.run(1) == [20]
    assert robot.client.counters.updates_lost == 1 and robot.client.awaiting_update


def test_after_a_loss_the_next_try_is_min_stride_away(robot):
    robot.settings.update_timeout = 10.0
    robot.run(1)
    for _ in range(2):
        robot.update(metric_alone(robot.key_frames[-1], 1.0))
        start = robot.run(robot.client.stride)[0]
    assert robot.client.stride > 24, 'no proof'
    assert robot.run(10) == [start + 10]


@pytest.mark.parametrize('timeout', [3.0, 20.0])  # fewer and more frames than MIN_STRIDE
def test_tries_of_a_silent_teacher_are_twice_as_far_apart_each_time(robot, timeout):
    robot.settings.update_timeout = timeout
    tries = robot.run(600)
    # The first is repeated as soon as may be; from then on a pause follows each time-out.
    assert robot.client.stride == 64
    pauses = np.diff(tries) - timeout
    assert tries[1] == max(8, timeout)
    assert pauses[1:6].tolist() == [16, 32, 64, 64, 64]
    # An answer ends it, and the next loss begins anew.
    robot.run_to_key_frame()
    robot.update(metric_alone(robot.key_frames[-1]))
    start = robot.run(64)[0]
    assert robot.run(64)[0] - start == max(8, timeout)


def test_no_early_key_frame_while_tries_are_spaced(student):
    robot = Robot(student, drift=0.3, update_timeout=2.0)
    robot.run(30)
    last = robot.key_frames[-1].frame_index
    robot.features = -robot.features
    assert robot.run(10) == [] and last == 26


@pytest.mark.parametrize('timeout', [3.0, 30.0])  # fewer and more frames than MIN_STRIDE
def test_overdue_says_that_no_update_came_since_one_was_overdue(robot, timeout):
    robot.settings.update_timeout = timeout
    assert not robot.client.overdue
    robot.run(int(timeout))
    assert not robot.client.overdue
    for _ in range(100):
        robot.run(1)
        assert robot.client.overdue
    assert len(robot.key_frames) > 1
    robot.update(metric_alone(robot.key_frames[-1]))
    assert not robot.client.overdue
    robot.run(1)
    assert not robot.client.overdue


def test_late_answers_are_applied_and_the_one_behind_too(robot):
    robot.settings.update_timeout = 10.0
    assert robot.run(12) == [0, 10]
    first = robot.student.weights()
    late = new_weights(robot.key_frames[0], robot.student)
    robot.update(late)
    assert robot.student.weights_checksum() == late.weights_checksum
    assert robot.client.round_trip == 12.0
    assert robot.client.awaiting_update, 'the second answer is still to come'
    # The second key frame said that the robot runs the weights before the first.
    second = new_weights(robot.key_frames[1], robot.student, base=first)
    robot.update(second)
    assert robot.student.weights_checksum() == second.weights_checksum != late.weights_checksum
    assert robot.client.weights_version == 2
    # Now nothing starts from the first weights, other than those of the file, any more.
    assert len(robot.states) == 2


def test_what_was_run_when_a_key_frame_was_sent_is_kept_for_its_answer(robot):
    robot.settings.update_timeout = 10.0
    robot.run(1)
    robot.update(new_weights(robot.key_frames[0], robot.student))
    run = robot.student.weights()
    robot.run(18)
    assert [key_frame.frame_index for key_frame in robot.key_frames] == [0, 8, 18]
    robot.update(new_weights(robot.key_frames[1], robot.student, base=run))
    robot.update(new_weights(robot.key_frames[2], robot.student, base=run))
    assert robot.client.weights_version == 3


def test_weights_that_are_run_already_are_no_new_version(robot):
    robot.run(1)
    weights = robot.student.weights()
    robot.update(replace(
        metric_alone(robot.key_frames[0]), status=Status.DONE, tensors=pack(weights)))
    assert robot.client.counters.updates_applied == 1 and robot.client.weights_version == 0


def test_a_teacher_that_needs_longer_than_the_time_out_is_waited_for(robot):
    robot.settings.update_timeout = 10.0
    answers, tries = {}, []
    for now in range(181):  # each answer comes when 12 frames have followed its key frame
        tries += [(index, robot.key_frames[-1].useful_seconds) for index in robot.run(1)]
        answers[now + 12] = robot.key_frames[-1]
        if now in answers and answers[now].frame_index == now - 12:
            robot.update(metric_alone(answers[now]))
    counters = robot.client.counters
    assert counters.updates_lost == 1 and not counters.updates_rejected
    assert counters.updates_applied >= 13
    assert tries[0][1] == 10.0 and {useful for _, useful in tries[3:]} == {19.5}
    # Silence is waited for no longer than ten time-outs.
    robot.client._needed = 1e5
    assert robot.client.patience == 100.0
    robot.settings.update_timeout = 1e4
    assert robot.client.patience == 1e5


def test_an_answer_to_an_older_key_frame_than_the_last_answered_is_rejected(robot):
    robot.settings.update_timeout = 10.0
    robot.run(12)
    robot.update(metric_alone(robot.key_frames[1]))
    with pytest.raises(UpdateRejected) as caught:
        robot.update(new_weights(robot.key_frames[0], robot.student))
    assert caught.value.reason == 'key_frame'


def test_an_update_is_applied_once(robot):
    robot.run(1)
    update = new_weights(robot.key_frames[0], robot.student)
    robot.update(update)
    with pytest.raises(UpdateRejected) as caught:
        robot.update(update)
    assert caught.value.reason == 'key_frame' and robot.client.weights_version == 1


def test_silence_takes_no_memory_and_ends(robot):
    robot.settings.update_timeout = 10.0
    robot.run(2000)
    assert robot.client.counters.updates_lost > 20
    assert len(robot.client._unanswered) <= 4
    with pytest.raises(UpdateRejected):  # it is remembered no longer
        robot.update(metric_alone(robot.key_frames[0]))
    robot.update(new_weights(robot.key_frames[-1], robot.student))
    assert robot.client.weights_version == 1


def test_what_is_unanswered_is_remembered_for_ten_time_outs_and_four_times_at_most(robot):
    robot.settings.update_timeout, robot.settings.max_stride = 10.0, 8
    robot.run(100)
    assert list(robot.client._unanswered) == [3, 4, 5, 6]
    robot.settings.max_stride = 64
    robot.run(500)
    # It is looked at where an update is overdue; 74 frames lie between the tries.
    sent = [one.sent for one in robot.client._unanswered.values()]
    assert len(sent) <= 3 and robot.now - sent[0] < 100 + 84


# --- without a teacher --------------------------------------------------------------------------

def test_without_a_teacher_no_key_frame_is_sent(robot):
    robot.client.connected = False
    assert robot.run(40) == []
    assert robot.client.counters.frames == 40 and robot.client.counters.updates_lost == 0
    robot.client.connected = True
    assert robot.run(3) == [40]


def test_a_teacher_that_comes_back_gets_a_key_frame_at_once(robot):
    robot.run(1)
    robot.update(metric_alone(robot.key_frames[0], 0.8))
    robot.client.connected = False
    assert robot.run(20) == []
    robot.client.connected = True
    assert robot.run(3) == [21]


def test_a_teacher_that_goes_leaves_nothing_but_weights(robot):
    robot.run(1)
    robot.update(new_weights(robot.key_frames[0], robot.student, classes=(3, 8)))
    before = robot.student.weights_checksum()
    assert robot.client.offered == (3, 8) and 0 not in robot.engine._rows
    assert robot.client.teacher == '/teacher'
    robot.client.connected = False
    robot.run(1)
    assert robot.client.offered == tuple(range(9)) and len(robot.engine._rows) == 9
    assert (robot.client.teacher_id, robot.client.teacher) == (0, '')
    assert robot.student.weights_checksum() == before


def test_a_teacher_that_was_restarted_is_asked_at_once(robot):
    robot.run(2)
    robot.client.forget_teacher()
    assert robot.client.counters.updates_lost == 1
    assert robot.run(3) == [2]
    with pytest.raises(UpdateRejected, match='awaits no answer'):
        robot.update(metric_alone(robot.key_frames[0]))
    robot.update(metric_alone(robot.key_frames[1], teacher_id=5))
    assert robot.client.teacher_id == 5


def test_a_teacher_that_goes_leaves_no_weights_that_nothing_starts_from(robot):
    robot.settings.update_timeout = 10.0
    robot.run(1)
    robot.update(new_weights(robot.key_frames[0], robot.student))
    run = robot.student.weights()
    robot.run(18)
    robot.update(new_weights(robot.key_frames[1], robot.student, base=run))
    assert len(robot.states) == 3, 'no proof'
    robot.client.forget_teacher()
    assert len(robot.states) == 2


def test_a_teacher_that_goes_takes_its_slowness_and_its_failures_with_it(robot):
    robot.settings.update_timeout = 10.0
    robot.run(1)
    robot.now += 60
    robot.update(new_weights(robot.key_frames[0], robot.student))
    robot.run(9)
    robot.update(new_weights(robot.key_frames[1], robot.student))
    robot.client._needed = 60.0
    assert robot.client.patience == 90.0
    robot.client.forget_teacher()
    assert robot.client.patience == 10.0
    tries = robot.run(100)
    assert robot.client.overdue
    robot.client.forget_teacher()
    assert not robot.client.overdue and not robot.client.refused
    again = robot.run(100)
    assert np.diff(again).tolist() == np.diff(tries).tolist(), 'spaced as at first'


# --- what a teacher sets -------------------------------------------------------------------------

def test_classes_are_withheld_while_the_teacher_answers(robot):
    robot.settings.update_timeout = 10.0
    robot.run(1)
    robot.update(metric_alone(robot.key_frames[0], classes=(8,)))
    robot.run(9)
    assert robot.client.offered == (8,) and robot.engine._rows == (8,)
    robot.run(8)  # the time-out is over, of the key frame that was sent at frame 8
    assert robot.client.overdue is False and robot.client.offered == (8,)
    robot.run(1)
    assert robot.client.overdue is True
    assert robot.client.offered == tuple(range(9)) and len(robot.engine._rows) == 9


@pytest.mark.parametrize('reason', REFUSALS)
def test_a_refusal_is_counted_said_and_gives_all_classes_back(robot, reason):
    robot.run(1)
    robot.update(metric_alone(robot.key_frames[0], classes=(8,)))
    index = robot.run(8)[0]
    before = robot.student.weights_checksum()
    robot.update(refused(robot.key_frames[-1], reason))
    client = robot.client
    assert client.counters.key_frames_refused == {reason: 1} and client.refused
    assert not client.awaiting_update and client.offered == tuple(range(9))
    assert client.counters.updates_applied == 1
    assert robot.student.weights_checksum() == before
    # The next try is MIN_STRIDE away, those behind it further, from the frame after the refusal.
    distances = []
    for _ in range(5):
        last, index = index, robot.run_to_key_frame()
        distances.append(index - last)
        robot.update(refused(robot.key_frames[-1], reason))
    assert distances == ([8] * 5 if reason == 'too_late' else [8, 17, 33, 65, 65])
    robot.run_to_key_frame()
    robot.update(metric_alone(robot.key_frames[-1]))
    assert not client.refused and robot.run_to_key_frame() - robot.client.stride > index


def test_a_key_frame_that_came_too_late_is_given_more_time(robot):
    robot.settings.update_timeout = 10.0
    robot.run(1)
    robot.update(refused(robot.key_frames[0], 'too_late', needed_seconds=30.0))
    assert robot.run(8) == [8] and robot.key_frames[-1].useful_seconds == 45.0


def test_an_unknown_refusal_counts_as_other(robot):
    for _ in range(3):
        robot.run_to_key_frame()
        robot.update(refused(robot.key_frames[-1], f'{robot.now} reasons'))
    assert robot.client.counters.key_frames_refused == {'other': 3}


# --- one teacher ---------------------------------------------------------------------------------

def test_the_first_teacher_that_answers_is_followed_until_it_is_silent(robot):
    robot.settings.update_timeout = 10.0
    robot.run(1)
    assert robot.key_frames[0].teacher_id == 0
    robot.update(metric_alone(robot.key_frames[0]))
    with pytest.raises(UpdateRejected):  # the other's answer, which comes second
        robot.update(metric_alone(robot.key_frames[0], teacher_id=5, teacher='/other'))
    robot.run(8)
    assert robot.key_frames[1].teacher_id == TEACHER
    with pytest.raises(UpdateRejected, match="'/other'.*'/teacher'.*followed") as caught:
        robot.update(new_weights(
            robot.key_frames[1], robot.student, teacher_id=5, teacher='/other'))
    assert caught.value.reason == 'teacher' and robot.client.awaiting_update
    robot.update(metric_alone(robot.key_frames[1]))
    assert robot.run_to_key_frame() == 16 and robot.key_frames[-1].teacher_id == TEACHER
    assert robot.run_to_key_frame() == 26 and robot.key_frames[-1].teacher_id == 0
    robot.update(metric_alone(robot.key_frames[-1], teacher_id=5, teacher='/other'))
    assert robot.client.teacher == '/other'


def test_a_key_frame_says_which_one_the_teacher_that_is_followed_has_answered(robot):
    robot.settings.update_timeout = 10.0

    def answered(answer=None):
        robot.run_to_key_frame()
        if answer:
            robot.update(answer(robot.key_frames[-1]))
        return robot.key_frames[-1].answered

    assert answered(metric_alone) == 0
    assert answered(metric_alone) == 1
    assert answered(lambda one: refused(one, 'training')) == 2
    assert answered(metric_alone) == 2  # not the one that was refused
    assert answered() == 4  # is lost, and the teacher silent
    assert answered(lambda one: metric_alone(one, teacher_id=5, teacher='/other')) == 0
    assert answered() == 6
    robot.client.forget_teacher()
    assert answered() == 0


def test_a_refusal_of_the_teacher_that_is_followed_is_the_answer(robot):
    robot.run(1)
    robot.update(metric_alone(robot.key_frames[0]))
    robot.run(8)
    robot.update(refused(robot.key_frames[1], 'training'))
    with pytest.raises(UpdateRejected) as caught:
        robot.update(new_weights(robot.key_frames[1], robot.student))
    assert caught.value.reason == 'key_frame'


def test_one_that_refuses_is_not_followed_and_another_may_still_answer(robot):
    robot.run(1)
    robot.update(refused(robot.key_frames[0], 'model', teacher_id=5))
    assert robot.client.teacher_id == 0
    robot.update(new_weights(robot.key_frames[0], robot.student))
    assert robot.client.teacher_id == TEACHER and robot.client.weights_version == 1


# --- weights that the teacher does not know ------------------------------------------------------

LABEL = np.zeros(FRAME.shape[:2], np.uint8)
LABEL[:, 48:] = 8


def from_the_file(robot, metric, label=LABEL, **changes):
    """Answer as a restarted teacher does, which knows the weights of the weights file alone."""
    initial = robot.client._origin[0]
    return new_weights(
        robot.key_frames[-1], robot.student, base=initial, metric=metric,
        metric_before=math.nan, label=encode_label(label), **changes)


@pytest.fixture
def astray(robot):
    """Return a robot whose weights are no longer those of the file."""
    robot.run(1)
    robot.update(new_weights(robot.key_frames[0], robot.student))
    robot.run(8)
    return robot


def test_weights_from_the_file_are_taken_over_where_they_do_better(astray):
    own = mean_iou(astray.mask, LABEL, 9)
    update = from_the_file(astray, own + 0.01)
    astray.update(update)
    assert astray.student.weights_checksum() == update.weights_checksum
    assert astray.client.last_update.metric_before == own
    assert astray.client.counters.updates_declined == 0 and astray.client.weights_version == 2


@pytest.mark.parametrize('worse', [0.0, 0.1])
def test_weights_from_the_file_that_do_no_better_are_declined(astray, worse):
    own = mean_iou(astray.mask, LABEL, 9)
    before = astray.student.weights_checksum()
    astray.update(from_the_file(astray, own - worse, classes=(0, 8)))
    client = astray.client
    assert astray.student.weights_checksum() == before and client.weights_version == 1
    assert (client.counters.updates_applied, client.counters.updates_declined) == (2, 1)
    assert client.last_update.metric_before == client.last_update.metric_after == own
    assert not client.awaiting_update and client.offered == (0, 8)
    assert client.stride == 8  # of its own metric


def test_a_mask_is_compared_with_the_label_of_a_reduced_key_frame(astray):
    astray.mask = astray.mask.repeat(2, 0).repeat(2, 1)
    astray.update(metric_alone(astray.key_frames[-1]))
    astray.run_to_key_frame()
    astray.update(from_the_file(astray, 0.9))
    assert astray.client.last_update.metric_before == mean_iou(astray.mask[::2, ::2], LABEL, 9)


def test_a_mask_that_is_smaller_than_its_frame_is_compared_at_the_size_of_the_label(astray):
    astray.mask = astray.mask[::2, ::2]
    astray.update(metric_alone(astray.key_frames[-1]))
    astray.run_to_key_frame()
    astray.update(from_the_file(astray, 0.9))
    assert not astray.client.counters.updates_rejected
    enlarged = astray.mask.repeat(2, 0).repeat(2, 1)
    assert astray.client.last_update.metric_before == mean_iou(enlarged, LABEL, 9)


def test_a_label_of_which_no_pixel_counts_decides_nothing(astray):
    before = astray.student.weights_checksum()
    astray.update(from_the_file(astray, 0.8, np.full_like(LABEL, 255)))
    assert astray.student.weights_checksum() == before


def test_a_label_of_a_frame_that_could_not_be_inferred_is_rejected(astray, monkeypatch):
    def fail(self, frame):
        raise RuntimeError('out of memory')

    astray.update(metric_alone(astray.key_frames[-1]))
    astray.run(7)
    with monkeypatch.context() as patched, pytest.raises(RuntimeError):
        patched.setattr(Robot, '__call__', fail)
        astray.run_to_key_frame()
    before = astray.state()
    with pytest.raises(UpdateRejected) as caught:
        astray.update(from_the_file(astray, 0.9))
    assert caught.value.reason == 'label' and astray.state() == before
    astray.run_to_key_frame()


# --- late_update: wait --------------------------------------------------------------------------

def test_waits_at_min_stride_alone(robot):
    robot.settings.late_update = 'wait'
    assert robot.client.wait_until() is None
    waits = []
    for _ in range(12):
        robot.run(1)
        waits.append(robot.client.wait_until())
    # The eighth frame after the key frame is the one that waits.
    assert waits == [None] * 7 + [100.0] + [None] * 4


def test_does_not_wait_where_nothing_is_awaited(robot):
    robot.settings.late_update = 'wait'
    robot.run(8)
    assert robot.client.wait_until() == 100.0
    robot.update(metric_alone(robot.key_frames[0]))
    assert robot.client.wait_until() is None


def test_does_not_wait_for_a_teacher_that_has_gone_or_is_silent(robot):
    robot.settings.late_update, robot.settings.update_timeout = 'wait', 20.0
    robot.run(8)
    assert robot.client.wait_until() == 20.0
    robot.client.connected = False
    assert robot.client.wait_until() is None
    robot.client.connected = True
    assert robot.run(13) == [20] and robot.client.overdue
    for _ in range(60):
        assert robot.client.wait_until() is None
        robot.run(1)
    robot.update(metric_alone(robot.key_frames[-1]))
    waits = set()
    for _ in range(90):
        robot.run(1)
        waits.add(robot.client.wait_until())
    assert len(waits) > 1, 'it is waited for again'


def test_a_slow_teacher_is_not_waited_for_beyond_the_time_out(robot):
    robot.settings.late_update, robot.settings.update_timeout = 'wait', 20.0
    robot.client._needed = 100.0
    robot.run(8)
    assert robot.client.wait_until() == 20.0


def test_does_not_wait_by_default(robot):
    assert ClientSettings().late_update == 'continue'
    for _ in range(12):
        robot.run(1)
        assert robot.client.wait_until() is None


def test_the_wait_ends_with_the_time_out(robot):
    robot.settings.late_update = 'wait'
    robot.run(8)
    robot.now = robot.client.wait_until()
    assert robot.run(1) == [8]
    assert robot.client.counters.updates_lost == 1


def test_the_wait_ends_at_the_very_time_that_it_said(student):
    for start, timeout in ((0.5, 0.25), (3.3, 0.3), (17.77, 0.7), (1234.567, 0.1)):
        robot = Robot(student, late_update='wait', update_timeout=timeout)
        for _ in range(8):
            robot.client.on_frame(FRAME, start)
        robot.client.on_frame(FRAME, robot.client.wait_until())
        assert robot.client.counters.updates_lost == 1


# --- key frames by the scene --------------------------------------------------------------------

def answer(robot, metric=1.0):
    """Answer the last key frame, and let the stride be long."""
    robot.update(metric_alone(robot.key_frames[-1], metric))
    robot.client.stride = 64


def test_a_cut_is_answered_two_frames_later(student):
    robot = Robot(student, drift=0.3)
    robot.run(10)
    answer(robot)
    robot.features = -robot.features
    assert robot.run(1) == [], 'once is a flash'
    robot.events.clear()
    assert robot.run(1) == [11]
    assert robot.events == ['infer', 'send'], 'its own mask does not wait'
    answer(robot)
    assert robot.run(60) == [], 'that is the scene now'


def test_a_flash_is_no_cut(student):
    robot = Robot(student, drift=0.3)
    robot.run(10)
    answer(robot)
    usual = robot.features
    for _ in range(5):
        robot.features = 3 * usual
        robot.run(1)
        robot.features = usual
        robot.run(1)
    assert len(robot.key_frames) == 1


@pytest.mark.parametrize('settings, apart', [
    # Of a camera of 48 frames a second; 8 of 12 a second are 0.67 s.
    ({}, 8), ({'stride_rate': 12.0, 'period': 0.021}, 32)])
def test_early_key_frames_are_min_stride_apart(student, settings, apart):
    robot = Robot(student, drift=0.3, min_stride=8, **settings)
    random, indices = torch.Generator().manual_seed(0), []
    for _ in range(5 * apart):
        robot.features = torch.rand(1, 128, 2, 3, generator=random) ** 4
        indices += robot.run(1)
        if robot.client.awaiting_update:
            answer(robot)
    assert len(indices) >= 4 and indices[0] == 0
    assert all(np.diff(indices[1:]) == apart), indices


def test_no_early_key_frame_while_one_is_awaited_or_without_a_teacher(student):
    robot = Robot(student, drift=0.3)
    robot.run(3)
    robot.features = -robot.features
    assert robot.run(5) == []
    answer(robot)
    robot.client.connected = False
    assert robot.run(5) == []


def test_drift_is_off_by_default_in_the_papers_way(student):
    robot = Robot(student, drift=0.0)
    robot.run(10)
    answer(robot)
    robot.features = -robot.features
    assert robot.run(53) == []


@pytest.mark.parametrize('metric, moved, expected', [
    (1.0, 1.0, [74]), (0.7, 1.0, [64]), (0.8, 1.0, [64]), (1.0, 1.5, [64])])
def test_a_still_scene_that_is_mastered_waits_longer(student, metric, moved, expected):
    robot = Robot(student, still=0.1, still_stride=74)
    robot.run(1)
    answer(robot, metric)
    robot.features = moved * robot.features
    assert robot.run(74) == expected


def test_a_still_scene_waits_no_shorter(student):
    robot = Robot(student, still=0.1, still_stride=20)
    robot.run(1)
    answer(robot)
    assert robot.run(64) == [64]


def test_a_still_scene_is_that_of_the_last_key_frame(student):
    robot = Robot(student, still=0.1, still_stride=74)
    robot.run(1)
    answer(robot)
    robot.features = 2 * robot.features
    assert robot.run(64) == [64]
    answer(robot)
    assert robot.run(74) == [138]


def test_a_scene_is_mastered_while_its_last_key_frame_was_answered(student):
    robot = Robot(student, still=0.1, still_stride=512, update_timeout=10.0)
    robot.run(1)
    answer(robot)
    assert robot.run(512) == [512]
    robot.update(refused(robot.key_frames[-1], 'training'))
    assert robot.run(8) == [520], 'that is not known of this one'


def test_a_scene_whose_last_key_frame_has_no_answer_is_not_mastered(student):
    robot = Robot(student, still=0.1, still_stride=512, update_timeout=10.0)
    robot.run(1)
    answer(robot)
    assert robot.run(523) == [512, 522]
    robot.run(10)
    # Both are overdue when the answer to the one before the last comes.
    robot.update(metric_alone(robot.key_frames[1], 1.0))
    assert not robot.client.awaiting_update
    assert robot.run(35) == [564]
    answer(robot)
    assert robot.run(300) == []


def test_strides_in_time(student):
    # A camera of one frame a second; strides count ten.
    robot = Robot(student, stride_rate=10.0)
    robot.run(1)
    answer(robot)
    assert robot.run(10) == [7], '64 of them are 6.4 s'
    answer(robot)
    assert robot.run(10) == [14]


# --- rejection ----------------------------------------------------------------------------------

def with_tensors(update, **changes):
    return replace(update, tensors=replace(update.tensors, **changes))


def with_blob(update, blob):
    return with_tensors(
        update, blob=blob, uncompressed_size=len(blob), checksum=zlib.crc32(blob))


def with_value(update, value):
    values = np.frombuffer(update.tensors.blob, '<f4').copy()
    values[1000] = value
    return with_blob(update, values.tobytes())


def with_places(update, change):
    return with_tensors(update, places=tuple(change(list(update.tensors.places))))


#: Each makes an update bad for the reason with it.
FAULTS = {
    'another session': ('session', lambda u: replace(u, session_id=u.session_id ^ 1)),
    'no key frame': ('key_frame', lambda u: replace(u, key_frame_number=0)),
    'a future key frame': ('key_frame', lambda u: replace(u, key_frame_number=2)),
    'another model': ('model', lambda u: replace(u, model_id='0' * 16)),
    'an endless model': ('model', lambda u: replace(u, model_id='0' * 10 ** 6)),
    'a teacher without a number': ('teacher', lambda u: replace(u, teacher_id=0)),
    'weights that are not here': ('base', lambda u: replace(u, base_checksum=7)),
    'a refusal before its time': ('seconds', lambda u: replace(
        u, status=Status.REFUSED, needed_seconds=-1.0)),
    'a refusal without end': ('seconds', lambda u: replace(
        u, status=Status.REFUSED, needed_seconds=math.nan)),
    'metric NaN': ('metric', lambda u: replace(u, metric_after=math.nan)),
    'metric below 0': ('metric', lambda u: replace(u, metric_after=-0.01)),
    'metric above 1': ('metric', lambda u: replace(u, metric_after=1.01)),
    'metric infinite': ('metric', lambda u: replace(u, metric_after=math.inf)),
    'metric before above 1': ('metric', lambda u: replace(u, metric_before=1e300)),
    'metric before NaN': ('metric', lambda u: replace(u, metric_before=math.nan)),
    'metric before NaN beside a label without weights': ('metric', lambda u: replace(
        u, status=Status.NOTHING_TO_GAIN, metric_before=math.nan, label=encode_label(LABEL))),
    'a teacher of ages': ('seconds', lambda u: replace(u, teacher_seconds=1e38)),
    'a training before its time': ('seconds', lambda u: replace(u, training_seconds=-1.0)),
    'a training without end': ('seconds', lambda u: replace(u, training_seconds=math.inf)),
    'threshold 0': ('metric', lambda u: replace(u, threshold=0.0)),
    'threshold 1': ('metric', lambda u: replace(u, threshold=1.0)),
    'threshold NaN': ('metric', lambda u: replace(u, threshold=math.nan)),
    'unknown status': ('status', lambda u: replace(u, status=7)),
    'weights that are said to be none': ('checksum', lambda u: replace(
        u, status=Status.NOTHING_TO_GAIN)),
    'a label that is none': ('label', lambda u: replace(u, label=b'no PNG')),
    'a label of unknown classes': ('label', lambda u: replace(
        u, label=encode_label(np.full_like(LABEL, 9)))),
    'a label that is larger than the frame': ('label', lambda u: replace(
        u, label=encode_label(np.zeros((64, 97), np.uint8)))),
    'a label without end': ('size', lambda u: replace(u, label=bytes(MAX_LABEL + 1))),
    'no classes': ('classes', lambda u: replace(u, classes=())),
    'classes in another order': ('classes', lambda u: replace(u, classes=(8, 0))),
    'a class twice': ('classes', lambda u: replace(u, classes=(0, 0))),
    'an unknown class': ('classes', lambda u: replace(u, classes=(0, 9))),
    'unknown encoding': ('encoding', lambda u: with_tensors(u, encoding='int2')),
    'cut': ('size', lambda u: with_blob(u, u.tensors.blob[:-4])),
    'no weights': ('checksum', lambda u: replace(u, tensors=NO_TENSORS)),
    'more bytes than all the weights have': ('size', lambda u: with_tensors(
        u, blob=bytes(5 * 10 ** 6))),
    'a million tensors': ('layout', lambda u: with_tensors(u, places=(0,) * 10 ** 6)),
    'a million classes': ('layout', lambda u: replace(u, classes=(0,) * 10 ** 6)),
    'size untrue': ('size', lambda u: with_tensors(u, uncompressed_size=2 ** 32 - 1)),
    'a flipped bit': ('checksum', lambda u: with_tensors(
        u, blob=bytes([u.tensors.blob[0] ^ 1]) + u.tensors.blob[1:])),
    'other weights than the teacher has': ('checksum', lambda u: replace(
        u, weights_checksum=u.weights_checksum ^ 1)),
    'a changed value': ('checksum', lambda u: with_value(u, 0.123)),
    'other tensors': ('size', lambda u: with_places(u, lambda p: [0, *p[1:]])),
    'tensors in another order': ('layout', lambda u: with_places(u, lambda p: p[::-1])),
    'tensors that there are not': ('layout', lambda u: with_places(u, lambda p: [*p[1:], 999])),
    'NaN': ('not_finite', lambda u: with_value(u, np.nan)),
    'infinite': ('not_finite', lambda u: with_value(u, np.inf)),
}


def test_every_reason_is_provoked():
    assert {reason for reason, _ in FAULTS.values()} == set(REJECTION_REASONS)


@pytest.mark.parametrize('fault', FAULTS)
def test_a_bad_update_changes_nothing_and_is_counted(robot, fault):
    robot.run(3)
    reason, spoil = FAULTS[fault]
    update = spoil(new_weights(robot.key_frames[0], robot.student))
    before = robot.state()
    with pytest.raises(UpdateRejected) as caught:
        robot.update(update)
    assert caught.value.reason == reason
    assert '\n' not in str(caught.value) and len(str(caught.value)) < 400
    assert robot.state() == before
    assert robot.client.counters.updates_rejected == {reason: 1}

    if reason in ('session', 'key_frame', 'teacher'):  # the answer is still to come
        assert robot.client.awaiting_update
        robot.update(new_weights(robot.key_frames[0], robot.student))
        assert robot.client.weights_version == 1
    else:
        assert not robot.client.awaiting_update
        assert robot.run(20) == [8], 'a key frame again at MIN_STRIDE'
        key_frame = robot.key_frames[-1]
        assert key_frame.weights_version == 0
        assert key_frame.weights_checksum == robot.student.weights_checksum()
        robot.update(new_weights(key_frame, robot.student, 'full'))
        assert robot.client.weights_version == 1
    assert robot.client.counters.updates_rejected == {reason: 1}


def test_what_is_too_large_is_screened_out_before_it_is_read(robot):
    robot.run(1)
    weights = robot.student.weights()
    possible = {'tensors': len(weights), 'blob': most_bytes(weights), 'label': MAX_LABEL,
                'classes': 9}
    robot.client.screen(robot.client.session_id, 1, **possible)
    for name, reason in (
            ('tensors', 'layout'), ('blob', 'size'), ('label', 'size'), ('classes', 'layout')):
        with pytest.raises(UpdateRejected) as caught:
            robot.client.screen(
                robot.client.session_id, 1, **{**possible, name: possible[name] + 1})
        assert caught.value.reason == reason


def test_rejections_add_up_by_reason(robot):
    robot.run(1)
    good = metric_alone(robot.key_frames[0])
    for changes in ({'session_id': 0}, {'session_id': 1}, {'key_frame_number': 9}):
        with pytest.raises(UpdateRejected):
            robot.update(replace(good, **changes))
    assert robot.client.counters.updates_rejected == {'session': 2, 'key_frame': 1}


def test_a_rejection_far_from_the_key_frame_makes_the_next_frame_a_key_frame(robot):
    robot.run(1)
    robot.update(metric_alone(robot.key_frames[0], 1.0))
    start = robot.run(16)[-1]
    robot.run(10)
    with pytest.raises(UpdateRejected):
        robot.update(metric_alone(robot.key_frames[-1], math.nan))
    assert robot.run(1) == [robot.client.counters.frames - 1]
    assert robot.key_frames[-1].frame_index > start


def test_an_older_session_is_refused_after_a_restart(student):
    first, second = Robot(student), Robot(student)
    first.run(1), second.run(1)
    with pytest.raises(UpdateRejected) as caught:
        second.update(new_weights(first.key_frames[0], student))
    assert caught.value.reason == 'session'


def mutated(update, random):
    """Change one field of an update, or its tensors."""
    number = int(random.choice([0, 1, 2, 3, 2 ** 32 - 1]))
    return [
        lambda: replace(update, session_id=number),
        lambda: replace(update, key_frame_number=number),
        lambda: replace(update, model_id=update.model_id[:number]),
        lambda: replace(update, base_checksum=number),
        lambda: replace(update, weights_checksum=number),
        lambda: replace(update, status=int(random.integers(4))),
        lambda: replace(update, metric_after=float(random.normal(0.5, 1))),
        lambda: replace(update, threshold=float(random.normal(0.5, 1))),
        lambda: replace(update, label=random.bytes(number % 100)),
        lambda: replace(update, label=encode_label(LABEL)),
        lambda: replace(update, tensors=NO_TENSORS),
        lambda: with_tensors(update, encoding=str(random.choice(['fp16', '', 'fp64']))),
        lambda: with_tensors(update, uncompressed_size=number),
        lambda: with_tensors(update, checksum=number),
        lambda: with_tensors(update, places=update.tensors.places[:number]),
        lambda: with_tensors(update, places=tuple(random.integers(0, 60, number % 30).tolist())),
        lambda: with_blob(update, update.tensors.blob[:int(random.integers(400_000))]),
        lambda: with_value(update, float(random.choice([0.0, np.nan, 1e30]))),
        lambda: with_tensors(update, blob=random.bytes(413_860)),
        lambda: update,
    ][int(random.integers(20))]()


def test_mutated_updates_are_rejected_or_lead_to_the_teachers_weights(student):
    random = np.random.default_rng(8)
    robot = Robot(student, min_stride=1, max_stride=1, update_timeout=50.0)
    outcomes = set()
    for _ in range(300):
        robot.run(1)
        update = mutated(new_weights(robot.key_frames[-1], robot.student), random)
        before = robot.state()
        try:
            robot.update(update)
        except UpdateRejected as rejected:
            assert rejected.reason in REJECTION_REASONS
            assert robot.state() == before
            outcomes.add(rejected.reason)
        else:
            if update.status == Status.REFUSED:
                assert robot.state() == before
            elif robot.state()[1] != before[1]:
                assert robot.student.weights_checksum() == update.weights_checksum
            outcomes.add(update.status)
        robot.now += 100  # an answer that was refused as not meant for it is lost
    assert len(outcomes) > 9
    counters = robot.client.counters
    assert counters.updates_applied + sum(counters.updates_rejected.values()) + sum(
        counters.key_frames_refused.values()) == 300


def test_the_given_student_is_not_changed(student):
    before = copy.deepcopy(student).weights_checksum()
    robot = Robot(student)
    robot.run(1)
    robot.update(new_weights(robot.key_frames[0], robot.student, 'full'))
    assert student.weights_checksum() == before != robot.student.weights_checksum()
