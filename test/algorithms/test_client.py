import copy
from dataclasses import replace
import math
import zlib

import numpy as np
import pytest
from shadowtutor_ros.algorithms.client import Client, ClientSettings
from shadowtutor_ros.models.inference import InferenceEngine
from shadowtutor_ros.wire.weight_update import (
    NO_TENSORS, pack, REJECTION_REASONS, Scope, UpdateRejected, WeightUpdate)
import torch

FRAME = np.zeros((64, 96, 3), np.uint8)


class Robot:
    """A client with what it did, in order: frames, key frames; a frame takes a second."""

    def __init__(self, student, **settings):
        self.settings = ClientSettings(**{
            'update_timeout': 100.0, 'min_stride': 8, 'drift': 0.0, 'still': 0.0, **settings})
        self.events = []
        self.key_frames = []
        self.engine = InferenceEngine(student)
        self.client = Client(self, self._send, self.settings)
        self.now = 0.0
        self.features = torch.ones(1, 128, 2, 3)

    # What the client uses of an engine; a constant mask instead of an inference saves time.

    encoder_version = 0

    @property
    def student(self):
        return self.engine.student

    def swap(self, tensors):
        self.engine.swap(tensors)

    def restrict(self, classes):
        self.engine.restrict(classes)

    @property
    def last_enc3(self):
        return self.features

    def __call__(self, frame):
        self.events.append('infer')
        return np.zeros(frame.shape[:2], np.uint8)

    def _send(self, key_frame):
        self.events.append('send')
        self.key_frames.append(key_frame)

    def run(self, frames):
        """Process frames and return which of them, counted from the start, were key frames."""
        before = len(self.key_frames)
        for _ in range(frames):
            self.client.on_frame(FRAME, self.now)
            self.now += 1
        return [key_frame.frame_index for key_frame in self.key_frames[before:]]

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


def metric_alone(key_frame, metric=0.8, **changes):
    return replace(WeightUpdate(
        session_id=key_frame.session_id, key_frame_number=key_frame.number,
        model_id=key_frame.model_id, base_version=key_frame.weights_version,
        new_version=key_frame.weights_version, weights_checksum=key_frame.weights_checksum,
        scope=Scope.NONE, tensors=NO_TENSORS, classes=tuple(range(9)), metric_before=metric,
        metric_after=metric, threshold=0.8, steps=0, max_updates=8, teacher_seconds=0.2,
        training_seconds=0.1), **changes)


def new_weights(key_frame, student, scope='partial', metric=0.8, encoding='fp32', **changes):
    """Answer with other weights, which differ from answer to answer."""
    generator = torch.Generator().manual_seed(key_frame.number)
    tensors = {
        name: (tensor.detach() + torch.rand(tensor.shape, generator=generator)).half().float()
        for name, tensor in student.tensors(scope).items()}
    return replace(
        metric_alone(key_frame, metric), new_version=key_frame.weights_version + 1,
        weights_checksum=student.weights_checksum(tensors), steps=3,
        scope=Scope.PARTIAL if scope == 'partial' else Scope.FULL,
        tensors=pack(tensors, encoding), **changes)


# --- striding -----------------------------------------------------------------------------------

def test_the_first_frame_is_a_key_frame(robot):
    assert robot.run(1) == [0]
    key_frame = robot.key_frames[0]
    assert key_frame.session_id == robot.client.session_id > 0
    assert (key_frame.number, key_frame.weights_version) == (1, 0)
    assert key_frame.model_id == robot.student.model_id
    assert key_frame.weights_checksum == robot.student.weights_checksum()
    assert key_frame.frame is FRAME


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


def test_after_a_loss_the_stride_is_min_stride(robot):
    robot.settings.update_timeout = 10.0
    robot.run(1)
    for _ in range(2):
        robot.update(metric_alone(robot.key_frames[-1], 1.0))
        start = robot.run(robot.client.stride)[0]
    assert robot.client.stride > 24, 'no proof'
    assert robot.run(30) == [start + 10, start + 20, start + 30]


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


def test_a_late_answer_is_applied_if_it_fits(robot):
    robot.settings.update_timeout = 10.0
    assert robot.run(12) == [0, 10]
    late = new_weights(robot.key_frames[0], robot.student)
    robot.update(late)
    assert robot.student.weights_checksum() == late.weights_checksum
    assert robot.client.round_trip == 12.0
    assert robot.client.awaiting_update, 'the second answer is still to come'
    # The second answer is for the weights before the first: it fits no longer.
    with pytest.raises(UpdateRejected) as caught:
        robot.update(new_weights(robot.key_frames[1], robot.student))
    assert caught.value.reason == 'base_version'
    assert robot.student.weights_checksum() == late.weights_checksum


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
    assert robot.client.counters.updates_lost > 100
    with pytest.raises(UpdateRejected):  # it is remembered no longer
        robot.update(metric_alone(robot.key_frames[0]))
    robot.update(new_weights(robot.key_frames[-1], robot.student))
    assert robot.client.weights_version == 1


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


def test_early_key_frames_are_min_stride_apart(student):
    robot = Robot(student, drift=0.3, min_stride=8)
    random, indices = torch.Generator().manual_seed(0), []
    for _ in range(40):
        robot.features = torch.rand(1, 128, 2, 3, generator=random) ** 4
        indices += robot.run(1)
        if robot.client.awaiting_update:
            answer(robot)
    assert len(indices) >= 4 and indices[0] == 0
    assert all(np.diff(indices[1:]) == 8), indices


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
    (1.0, 1.0, [74]), (0.7, 1.0, [64]), (1.0, 1.5, [64])])
def test_a_still_scene_that_is_mastered_waits_longer(student, metric, moved, expected):
    robot = Robot(student, still=0.1, still_stride=74)
    robot.run(1)
    answer(robot, metric)
    robot.features = moved * robot.features
    assert robot.run(74) == expected


def test_strides_in_time(student):
    # A camera of one frame a second; strides count ten.
    robot = Robot(student, stride_rate=10.0)
    robot.run(1)
    answer(robot)
    assert robot.run(10) == [7], '64 of them are 6.4 s'


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


def with_entry(update, index, **changes):
    entries = list(update.tensors.entries)
    entries[index] = replace(entries[index], **changes)
    return with_tensors(update, entries=tuple(entries))


#: Each makes an update bad for the reason with it.
FAULTS = {
    'another session': ('session', lambda u: replace(u, session_id=u.session_id ^ 1)),
    'no key frame': ('key_frame', lambda u: replace(u, key_frame_number=0)),
    'a future key frame': ('key_frame', lambda u: replace(u, key_frame_number=2)),
    'another model': ('model', lambda u: replace(u, model_id='0' * 16)),
    'an endless model': ('model', lambda u: replace(u, model_id='0' * 10 ** 6)),
    'older weights': ('base_version', lambda u: replace(u, base_version=7)),
    'metric NaN': ('metric', lambda u: replace(u, metric_after=math.nan)),
    'metric below 0': ('metric', lambda u: replace(u, metric_after=-0.01)),
    'metric above 1': ('metric', lambda u: replace(u, metric_after=1.01)),
    'metric infinite': ('metric', lambda u: replace(u, metric_after=math.inf)),
    'metric before above 1': ('metric', lambda u: replace(u, metric_before=1e300)),
    'metric before NaN': ('metric', lambda u: replace(u, metric_before=math.nan)),
    'a teacher of ages': ('seconds', lambda u: replace(u, teacher_seconds=1e38)),
    'a training before its time': ('seconds', lambda u: replace(u, training_seconds=-1.0)),
    'a training without end': ('seconds', lambda u: replace(u, training_seconds=math.inf)),
    'threshold 0': ('metric', lambda u: replace(u, threshold=0.0)),
    'threshold 1': ('metric', lambda u: replace(u, threshold=1.0)),
    'threshold NaN': ('metric', lambda u: replace(u, threshold=math.nan)),
    'unknown scope': ('scope', lambda u: replace(u, scope=7)),
    'weights without a scope': ('scope', lambda u: replace(u, scope=Scope.NONE)),
    'a version without weights': ('scope', lambda u: replace(
        u, scope=Scope.NONE, tensors=NO_TENSORS)),
    'no classes': ('classes', lambda u: replace(u, classes=())),
    'an unknown class': ('classes', lambda u: replace(u, classes=(0, 9))),
    'unknown encoding': ('encoding', lambda u: with_tensors(u, encoding='int2')),
    'cut': ('size', lambda u: with_blob(u, u.tensors.blob[:-4])),
    'no weights': ('scope', lambda u: replace(u, tensors=NO_TENSORS)),
    'partial said to be full': ('scope', lambda u: replace(u, scope=Scope.FULL)),
    'size untrue': ('size', lambda u: with_tensors(u, uncompressed_size=2 ** 32 - 1)),
    'a flipped bit': ('checksum', lambda u: with_tensors(
        u, blob=bytes([u.tensors.blob[0] ^ 1]) + u.tensors.blob[1:])),
    'other weights than the teacher has': ('checksum', lambda u: replace(
        u, weights_checksum=u.weights_checksum ^ 1)),
    'a changed value': ('checksum', lambda u: with_value(u, 0.123)),
    'wrong name': ('layout', lambda u: with_entry(u, 3, name='in_conv1.weight')),
    'wrong shape': ('layout', lambda u: with_entry(u, -1, shape=(3, 3))),
    'wrong offset': ('layout', lambda u: with_entry(u, 3, offset=0)),
    'wrong dtype': ('layout', lambda u: with_entry(u, 3, dtype='fp16')),
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
    assert '\n' not in str(caught.value) and len(str(caught.value)) < 300
    assert robot.state() == before
    assert robot.client.counters.updates_rejected == {reason: 1}

    if reason in ('session', 'key_frame'):  # it was not the answer: that is still to come
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
        lambda: replace(update, base_version=number),
        lambda: replace(update, weights_checksum=number),
        lambda: replace(update, scope=int(random.integers(256))),
        lambda: replace(update, metric_after=float(random.normal(0.5, 1))),
        lambda: replace(update, threshold=float(random.normal(0.5, 1))),
        lambda: replace(update, tensors=NO_TENSORS),
        lambda: with_tensors(update, encoding=str(random.choice(['fp16', '', 'fp64']))),
        lambda: with_tensors(update, uncompressed_size=number),
        lambda: with_tensors(update, checksum=number),
        lambda: with_tensors(update, entries=update.tensors.entries[:number]),
        lambda: with_entry(update, int(random.integers(26)), offset=number),
        lambda: with_entry(update, int(random.integers(26)), shape=(number,) * (number % 5)),
        lambda: with_blob(update, update.tensors.blob[:int(random.integers(400_000))]),
        lambda: with_value(update, float(random.choice([0.0, np.nan, 1e30]))),
        lambda: with_tensors(update, blob=random.bytes(413_860)),
        lambda: update,
    ][int(random.integers(19))]()


def test_mutated_updates_are_rejected_or_lead_to_the_teachers_weights(student):
    random = np.random.default_rng(8)
    robot = Robot(student, min_stride=1, max_stride=1)
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
            assert robot.student.weights_checksum() == update.weights_checksum
            outcomes.add('applied')
        robot.now += 100  # an answer that was refused as not meant for it is lost
    assert len(outcomes) > 7
    counters = robot.client.counters
    assert counters.updates_applied + sum(counters.updates_rejected.values()) == 300


def test_the_given_student_is_not_changed(student):
    before = copy.deepcopy(student).weights_checksum()
    robot = Robot(student)
    robot.run(1)
    robot.update(new_weights(robot.key_frames[0], robot.student, 'full'))
    assert student.weights_checksum() == before != robot.student.weights_checksum()
