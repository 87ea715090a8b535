import copy
from dataclasses import replace
import itertools

import numpy as np
import pytest
from shadowtutor_ros.algorithms.client import Client, ClientSettings
from shadowtutor_ros.algorithms.server import REMEMBERED, Server, ServerSettings, SILENCE
from shadowtutor_ros.algorithms.student_training import StudentTrainer
from shadowtutor_ros.classes import IGNORE
from shadowtutor_ros.metrics import mean_iou
from shadowtutor_ros.models.student.inference import InferenceEngine
from shadowtutor_ros.models.teachers.base import TeacherPrediction
from shadowtutor_ros.wire.encodings import ENCODINGS, Int4
from shadowtutor_ros.wire.key_frame import decode_label, KeyFrame, KeyFrameError
from shadowtutor_ros.wire.weight_update import REFUSALS, Status
import torch


@pytest.fixture
def settings():
    return ServerSettings(
        threshold=0.8, training_target=0.0, max_updates=8, learning_rate=0.003, scope='partial',
        replay=0, variants=0, seen_classes=False, encoding='fp32', training_seconds=0.0)


@pytest.fixture
def make_server(student, teacher, settings):
    """Return a function that makes a server whose clock ticks once a second it is read."""
    return lambda student=student, device='cpu': Server(
        student, teacher, settings, itertools.count().__next__, device)


class Robot:
    """A client of which every frame is a key frame, and its link to a server."""

    def __init__(self, student, student_id=1, device='cpu'):
        self._key_frames = []
        self.engine = InferenceEngine(student, device=device)
        self.client = Client(
            self.engine, self._key_frames.append,
            ClientSettings(1, 1, update_timeout=50.0, stride_rate=0.0, drift=0.0, still=0.0),
            student_id=student_id, name=f'/robot{student_id}/student')
        self._now = 0.0

    def send(self, frame):
        """Return the key frame that is sent of a frame."""
        self._now += 100  # whatever was lost does not space the tries
        self.client.on_frame(frame, self._now)
        while not self._key_frames:
            self.client.on_frame(frame, self._now)
        return self._key_frames.pop()

    def ask(self, server, frame, **options):
        """Send a frame to the server and return the answer, which is not applied yet."""
        return server.on_key_frame(self.send(frame), **options)

    def apply(self, update):
        self.client.on_update(update, self._now)

    def play(self, server, frames):
        """Send frames and apply the answers; return these."""
        updates = []
        for frame in frames:
            updates.append(self.ask(server, frame))
            self.apply(updates[-1])
            if not updates[-1].label:  # else the robot decides
                assert self.checksum == updates[-1].weights_checksum
        return updates

    @property
    def checksum(self):
        return self.engine.student.weights_checksum()


def statuses(updates):
    return [update.status for update in updates]


def names(update, student):
    return [list(student.tensors())[place] for place in update.tensors.places]


def key_frame(student, frame, number=1, session_id=5):
    checksum = student.weights_checksum()
    return KeyFrame(
        session_id, number, 0, student.model_id, checksum, 0, checksum, frame)


# --- one answer ---------------------------------------------------------------------------------

def test_the_answer_echoes_the_key_frame(make_server, student, pictures):
    asked = replace(key_frame(student, pictures[0]), number=12, weights_version=34)
    server = make_server()
    update = server.on_key_frame(asked)
    assert (update.session_id, update.key_frame_number) == (5, 12)
    assert update.model_id == student.model_id
    assert update.base_checksum == student.weights_checksum() and update.label == b''
    assert update.teacher_id == server.teacher_id > 0 and update.teacher == 'teacher'


def test_the_answer_says_what_was_done(make_server, student, pictures, settings, teacher):
    steps = []
    settings.threshold = 0.7
    update = make_server().on_key_frame(
        key_frame(student, pictures[0]), lambda: steps.append(1))
    assert update.steps == len(steps) > 0
    assert 0 <= update.metric_before < update.metric_after <= 1 and update.threshold == 0.7
    assert (update.teacher_seconds, update.training_seconds) == (1, 1)
    assert len(teacher.frames) == 1 and (teacher.frames[0] == pictures[0]).all()


@pytest.mark.parametrize('encoding, size', [('fp32', 4), ('fp16', 2)])
@pytest.mark.parametrize('scope', ['partial', 'full'])
def test_sends_the_tensors_of_its_scope(make_server, student, pictures, settings, scope,
                                        encoding, size):
    settings.scope, settings.encoding = scope, encoding
    update = make_server().on_key_frame(key_frame(student, pictures[0]))
    assert update.status == Status.DONE and update.tensors.encoding == encoding
    assert names(update, student) == list(student.tensors(scope))
    count = {'partial': 103_465, 'full': 483_873}[scope]
    assert len(update.tensors.blob) == update.tensors.uncompressed_size == size * count


def test_sends_the_metric_alone_where_nothing_was_trained(
        make_server, student, pictures, settings):
    settings.max_updates = 0
    update = make_server().on_key_frame(key_frame(student, pictures[0]))
    assert update.status == Status.NOTHING_TO_GAIN and update.tensors.blob == b''
    assert update.tensors.places == ()
    assert update.weights_checksum == update.base_checksum == student.weights_checksum()
    assert update.metric_after == update.metric_before >= 0 and update.steps == 0


def test_sends_the_metric_alone_where_training_made_nothing_better(
        make_server, student, pictures, settings):
    server, robot = make_server(), Robot(student)
    robot.play(server, pictures[:1] * 4)
    settings.threshold, settings.learning_rate = 0.99, 10.0
    before = robot.checksum
    update = robot.ask(server, pictures[0])
    assert update.steps == 8 and update.metric_after == update.metric_before, 'no proof'
    assert update.status == Status.NOTHING_TO_GAIN and update.weights_checksum == before


def test_the_answer_names_the_classes_to_choose_from(make_server, student, pictures, settings):
    settings.max_updates = 0
    server = make_server()
    assert server.on_key_frame(key_frame(student, pictures[0])).classes == tuple(range(9))
    settings.seen_classes, settings.always_offered = True, ('dog',)
    assert server.on_key_frame(key_frame(student, pictures[0], 2)).classes == (0, 4, 8)


@pytest.mark.parametrize('lost', [0.0, 0.1])
def test_a_gain_that_the_coding_loses_is_given_up(
        make_server, student, pictures, settings, monkeypatch, lost):
    settings.encoding, settings.max_updates = 'fp16', 0
    before = make_server().on_key_frame(key_frame(student, pictures[0])).metric_before
    settings.max_updates = 8
    server, robot = make_server(), Robot(student)
    monkeypatch.setattr(StudentTrainer, 'metric', lambda trainer: before - lost)
    update, = robot.play(server, pictures[:1])
    assert update.steps > 0 and update.status == Status.NOTHING_TO_GAIN
    assert update.metric_after == update.metric_before == before
    assert (update.weights_checksum == server.session.student.weights_checksum()
            == student.weights_checksum())


def test_out_of_step_a_coding_that_loses_the_gain_gives_way_to_a_finer_one(
        make_server, student, pictures, settings, monkeypatch):
    known = key_frame(student, pictures[0])
    unknown = replace(known, weights_checksum=7)
    trained = make_server().on_key_frame(known)
    assert trained.metric_after > trained.metric_before + 0.1, 'no proof'
    monkeypatch.setitem(ENCODINGS, 'int4', Int4(1e4))  # no difference is as large as half a step
    settings.encoding = 'int4'
    update = make_server().on_key_frame(unknown)
    assert update.tensors.encoding == 'int8'
    assert update.metric_after == pytest.approx(trained.metric_after, abs=0.03)
    assert make_server().on_key_frame(known).status == Status.NOTHING_TO_GAIN


def test_weights_that_cannot_be_sent_are_forgotten(make_server, student, pictures, settings):
    settings.encoding = 'fp16'
    server = make_server()

    def diverge():
        with torch.no_grad():
            server.session.student.out_conv3.bias.fill_(1e6)
    with pytest.raises(KeyFrameError, match='cannot be sent.*begins anew') as caught:
        server.on_key_frame(key_frame(student, pictures[0]), diverge)
    assert caught.value.reason == 'training'
    assert server.session.student.weights_checksum() == student.weights_checksum()
    update = server.on_key_frame(key_frame(student, pictures[1], 2))
    fresh = make_server().on_key_frame(key_frame(student, pictures[1]))
    assert update.tensors == fresh.tensors and update.status == Status.DONE


def test_warming_up_trains_a_copy(make_server, student, pictures):
    server = make_server()
    server.warm_up(64, 96)
    server.on_key_frame(key_frame(student, pictures[0]))
    assert all(torch.equal(tensor, student.state_dict()[name])
               for name, tensor in server.session.initial.items())


@pytest.mark.parametrize('seconds, steps', [(0.0, 8), (4.0, 3), (0.5, 1)])
def test_training_ends_with_its_time(make_server, settings, pictures, student, seconds, steps):
    # The clock ticks when it is asked for the time that is left: at first, and after each step.
    settings.threshold, settings.training_seconds = 0.999, seconds
    assert Robot(student).ask(make_server(), pictures[0]).steps == steps


def test_learns(make_server, student, pictures):
    updates = Robot(student).play(make_server(), pictures[:1] * 6)
    assert updates[0].metric_before < 0.3 and updates[-1].metric_after > 0.8
    assert updates[-1].status == Status.NOTHING_TO_GAIN


def test_leaves_the_given_student_as_it_is(make_server, student, pictures):
    before, gradients = student.weights_checksum(), [p.requires_grad for p in student.parameters()]
    server = make_server()
    server.on_key_frame(key_frame(student, pictures[0]))
    assert student.weights_checksum() == before
    assert [p.requires_grad for p in student.parameters()] == gradients


def test_a_student_changed_later_does_not_change_new_sessions(make_server, student, pictures):
    original = copy.deepcopy(student)
    server = make_server()
    with torch.no_grad():
        student.out_conv3.bias.add_(1)
    update = server.on_key_frame(key_frame(original, pictures[0]))
    assert update.status == Status.DONE and update.label == b''


@pytest.mark.parametrize('changes, reason, said', [
    ({'model_id': 'f' * 10 ** 5}, 'model', 'same package version'),
    ({'initial_checksum': 7}, 'weights', 'weights file.*00000007.*same parameter weights')])
def test_another_student_network_is_refused(
        make_server, student, pictures, changes, reason, said):
    server, robot = make_server(), Robot(student)
    robot.play(server, pictures[:2])
    strange = replace(key_frame(student, pictures[0]), session_id=99, **changes)
    with pytest.raises(KeyFrameError, match=said) as caught:
        server.on_key_frame(strange)
    assert caught.value.reason == reason and len(str(caught.value)) < 300
    # The session that was there goes on.
    assert not any(update.label for update in robot.play(server, pictures[2:4]))


def test_a_refusal_is_an_answer(make_server, student, pictures):
    server, robot = make_server(), Robot(student)
    asked = robot.send(pictures[0])
    update = server.refuse(
        asked.session_id, asked.number, asked.model_id,
        KeyFrameError('so late', 'too_late', 60.0))
    robot.apply(update)
    assert robot.client.counters.key_frames_refused == {'too_late': 1}
    assert robot.client.patience == 90.0


def fail(*arguments):
    raise RuntimeError('out of\nmemory')


@pytest.mark.parametrize('part, reason', [('teacher', 'unlabelled'), ('training', 'training')])
def test_what_fails_leaves_the_session_as_it_was(
        make_server, student, pictures, teacher, monkeypatch, part, reason):
    server, robot = make_server(), Robot(student)
    robot.play(server, pictures[:2])
    with monkeypatch.context() as patch:
        if part == 'teacher':
            patch.setattr(type(teacher), '__call__', fail)
        else:
            patch.setattr(type(server.session.trainer), '_loss', fail)
        with pytest.raises(KeyFrameError, match='RuntimeError: out of memory') as caught:
            robot.ask(server, pictures[2])
        assert caught.value.reason == reason in REFUSALS
        assert isinstance(caught.value.__cause__, RuntimeError)
    assert not any(update.label for update in robot.play(server, pictures[2:4]))


def test_a_label_that_does_not_fit_is_refused(make_server, student, pictures):
    server = make_server()
    server._teacher = lambda frame, classes: TeacherPrediction(
        np.zeros((3, 3), np.uint8), np.zeros((0, 4)))
    with pytest.raises(KeyFrameError, match='label of shape') as caught:
        server.on_key_frame(key_frame(student, pictures[0]))
    assert caught.value.reason == 'unlabelled'


# --- once, and in time ---------------------------------------------------------------------------

def test_a_key_frame_is_answered_once(make_server, student, pictures, teacher):
    server, robot = make_server(), Robot(student)
    first, second = robot.send(pictures[0]), robot.send(pictures[1])
    assert server.on_key_frame(first) and server.on_key_frame(second)
    for again in (first, second, first):
        assert server.on_key_frame(again) is None
    assert len(teacher.frames) == 2


def test_what_cannot_be_answered_in_time_is_refused(make_server, student, pictures, teacher):
    server = make_server()  # an answer takes two seconds by its clock
    asked = replace(key_frame(student, pictures[0]), useful_seconds=5.0)
    with pytest.raises(KeyFrameError) as caught:
        server.on_key_frame(asked, waited=5.1)
    assert caught.value.reason == 'too_late' and caught.value.needed_seconds == 5.1
    assert not teacher.frames
    assert server.on_key_frame(asked, waited=4.9)
    late = replace(asked, number=2)
    with pytest.raises(KeyFrameError, match='after 5.5 s .* of use for 5.0 s') as caught:
        server.on_key_frame(late, waited=3.5)
    assert caught.value.needed_seconds == 5.5
    with pytest.raises(KeyFrameError, match='of use for nan s'):
        server.on_key_frame(replace(asked, number=3, useful_seconds=np.nan))
    # What was slow once is not taken to be so for ever.
    assert server.on_key_frame(late, waited=3.5)


def test_an_answer_takes_as_long_as_the_shortest_of_the_last_three(
        make_server, student, pictures, settings, teacher):
    now, needed = [0.0], [1.0, 5.0, 4.0, 6.0, 1.0]

    def slow(frame, classes):
        now[0] += needed.pop(0)
        return teacher(frame, classes)
    settings.max_updates = 0
    server = make_server()
    server._clock, server._teacher = lambda: now[0], slow
    for number in range(1, 5):
        assert server.on_key_frame(key_frame(student, pictures[0], number))
    urgent = replace(key_frame(student, pictures[0], 5), useful_seconds=3.5)
    for seconds in (4.0, 4.0, 6.0):
        with pytest.raises(KeyFrameError) as caught:
            server.on_key_frame(urgent)
        assert caught.value.needed_seconds == seconds
    assert server.on_key_frame(urgent)


# --- the loop -----------------------------------------------------------------------------------

@pytest.mark.parametrize('encoding', ENCODINGS)
@pytest.mark.parametrize('scope', ['partial', 'full', 'dec1,out_conv3'])
def test_client_and_server_stay_together(make_server, student, pictures, settings, scope,
                                         encoding, device):
    settings.scope, settings.encoding = scope, encoding
    server, robot = make_server(device=device), Robot(student, device=device)
    # play() compares the checksums after each answer; and a server that found another robot's
    # weights than its own would send everything, though nothing was trained.
    updates = robot.play(server, pictures + pictures[:4])
    assert robot.client.counters.updates_applied == 14
    assert statuses(updates).count(Status.DONE) >= 3, 'no proof'
    for update in updates:
        assert not update.label
        if update.status == Status.NOTHING_TO_GAIN:
            assert update.metric_after == update.metric_before
        else:
            assert update.metric_after > update.metric_before
            assert names(update, student) == list(student.tensors(scope))
    assert robot.client.weights_version == statuses(updates).count(Status.DONE)


def test_partial_distillation_keeps_the_front_end(make_server, student, pictures):
    robot = Robot(student)
    robot.play(make_server(), pictures)
    changed = {name for name, tensor in robot.engine.student.state_dict().items()
               if not torch.equal(tensor, student.state_dict()[name])}
    assert changed and changed <= set(student.tensors('partial'))


@pytest.mark.parametrize('encoding', ENCODINGS)
@pytest.mark.parametrize('lost', [1, 3])
def test_lost_updates_cost_one_ordinary_update(
        make_server, student, pictures, settings, encoding, lost):
    settings.encoding, settings.threshold = encoding, 0.99
    server, robot = make_server(), Robot(student)
    usual = robot.play(server, pictures[:2])
    assert statuses(usual) == [Status.DONE] * 2, 'no proof'
    before = robot.checksum
    for picture in pictures[2:2 + lost]:
        assert robot.ask(server, picture).status == Status.DONE
    update, = robot.play(server, pictures[6:7])
    assert update.base_checksum == before and not update.label
    # From what the robot runs to what came of what was lost and of this.
    assert update.metric_after > update.metric_before
    assert names(update, student) == list(student.tensors('partial'))
    assert len(update.tensors.blob) < 3 * max(len(one.tensors.blob) for one in usual)
    assert robot.play(server, pictures[7:8])[0].base_checksum == update.weights_checksum


def test_an_update_from_what_the_robot_runs_says_how_that_does(make_server, student, pictures):
    server, robot = make_server(), Robot(student)
    robot.play(server, pictures[:1])
    robot.ask(server, pictures[1])  # it is lost
    twin = make_server()
    other = Robot(student)
    other.play(twin, pictures[:1])
    expected = other.ask(twin, pictures[2]).metric_before
    assert robot.ask(server, pictures[2]).metric_before == expected


def test_lost_training_that_made_it_worse_here_is_forgotten(
        make_server, student, pictures, settings, monkeypatch):
    server, robot = make_server(), Robot(student)
    robot.play(server, pictures[:1] * 4)
    before = robot.checksum
    # Trained on what is nothing like it, which the robot never hears of.
    settings.learning_rate, settings.max_updates = 0.05, 20
    lost = robot.ask(server, 255 - pictures[0])
    assert lost.status == Status.DONE
    settings.max_updates = 0
    monkeypatch.setattr(server, '_pack', fail)  # there is nothing to be packed
    update, = robot.play(server, pictures[:1])
    assert update.status == Status.NOTHING_TO_GAIN and update.weights_checksum == before
    assert server.session.student.weights_checksum() == before


def test_what_was_lost_is_sent_again_though_nothing_is_trained(
        make_server, student, pictures, settings):
    server, robot = make_server(), Robot(student)
    lost = robot.ask(server, pictures[0])
    assert lost.status == Status.DONE, 'no proof'
    settings.max_updates = 0
    update, = robot.play(server, pictures[:1])
    assert update.steps == 0 and robot.checksum == lost.weights_checksum


@pytest.mark.parametrize('known', [True, False])
def test_a_key_frame_of_which_no_pixel_counts_changes_nothing(
        make_server, student, pictures, settings, monkeypatch, known):
    settings.encoding = 'fp16'
    server, robot = make_server(), Robot(student)
    robot.play(server, pictures[:1])
    before = robot.checksum
    if known:
        robot.ask(server, pictures[1])  # it is lost
        monkeypatch.setattr(server, '_pack', fail)  # there is nothing to be packed
    else:
        server = make_server()
        robot.client.forget_teacher()
    server._teacher = lambda frame, classes: TeacherPrediction(
        np.full(frame.shape[:2], IGNORE, np.uint8), np.zeros((0, 4)))
    update, = robot.play(server, pictures[2:3])
    assert robot.checksum == before
    # At the threshold the stride stays as it is.
    last = robot.client.last_update
    assert update.metric_after == last.metric_before == last.metric_after == 0.8


def test_a_lost_metric_costs_nothing(make_server, student, pictures, settings):
    server, robot = make_server(), Robot(student)
    robot.play(server, pictures[:2])
    settings.max_updates = 0
    assert robot.ask(server, pictures[2]).status == Status.NOTHING_TO_GAIN
    assert robot.play(server, pictures[3:4])[0].status == Status.NOTHING_TO_GAIN


@pytest.mark.parametrize('encoding', ENCODINGS)
def test_a_restarted_server_goes_on_from_the_weights_file(
        make_server, student, pictures, settings, encoding):
    settings.encoding, settings.threshold = encoding, 0.99
    robot = Robot(student)
    usual = robot.play(make_server(), pictures[:3])
    assert Status.DONE in statuses(usual), 'no proof'
    server = make_server()
    robot.client.forget_teacher()
    update = robot.ask(server, pictures[0])
    assert update.base_checksum == student.weights_checksum() and np.isnan(update.metric_before)
    label = decode_label(update.label, pictures[0].shape[:2])
    assert np.array_equal(label, server._teacher(pictures[0]).label)
    own = robot.engine(pictures[0])
    robot.apply(update)
    last = robot.client.last_update
    assert last.metric_before == pytest.approx(
        mean_iou(own, label, 9))
    taken = robot.client.counters.updates_declined == 0
    assert taken == (update.metric_after > last.metric_before)
    # Sooner or later what comes does better, and from then on it is known here.
    for picture in pictures[3:] + pictures[:8]:
        update, = robot.play(server, [picture])
    assert not update.label and robot.checksum == server.session.student.weights_checksum()


def test_what_the_robot_declines_is_not_taken_for_what_it_runs(
        make_server, student, pictures, settings):
    robot = Robot(student)
    robot.play(make_server(), pictures[:1] * 6)
    settings.max_updates = 0
    server = make_server()
    robot.client.forget_teacher()
    before = robot.checksum
    updates = robot.play(server, pictures[:1] * 2)
    assert robot.checksum == before and robot.client.counters.updates_declined == 2
    assert all(update.label for update in updates)
    # The weights of the file, said without a byte.
    assert updates[0].weights_checksum == student.weights_checksum()


def test_weights_are_remembered_within_bounds(make_server, student, pictures, settings):
    settings.threshold = 0.99
    server, robot = make_server(), Robot(student)
    robot.play(server, pictures[:1])
    held = robot.checksum
    for picture in pictures[1:9]:
        assert robot.ask(server, picture).status == Status.DONE
        assert len(server.session._sent) <= REMEMBERED
    # What the robot runs is not forgotten, however many updates are lost.
    assert robot.ask(server, pictures[9]).base_checksum == held
    # The frozen tensors are those of the weights file, not copies.
    first, _ = next(iter(server.session._sent.values()))
    assert first['in_conv1.weight'] is server.session.initial['in_conv1.weight']


def test_no_more_is_sent_than_was_kept(make_server, student, pictures, settings):
    settings.share, settings.threshold = 0.02, 0.99
    robot, server = Robot(student), make_server()
    for picture in pictures[:3]:
        before = copy.deepcopy(robot.engine.student.tensors('partial'))
        update, = robot.play(server, [picture])
        assert update.metric_after > update.metric_before
        changed = sum(int((tensor != before[name]).sum())
                      for name, tensor in robot.engine.student.tensors('partial').items())
        assert 0 < changed < 0.7 * sum(tensor.numel() for tensor in before.values())
        # What is sent is what was trained, but for its rounding.
        assert update.metric_after == pytest.approx(server.session.trainer.metric(), abs=1e-6)


def test_a_new_session_starts_from_the_initial_weights(make_server, student, pictures):
    used = make_server()
    assert Status.DONE in statuses(Robot(student).play(used, pictures[:3])), 'no proof'
    restarted, first = Robot(student), Robot(student)
    after = restarted.play(used, pictures[3:6])
    fresh = first.play(make_server(), pictures[3:6])
    # Neither the weights nor the optimizer's state remember the session before.
    assert [u.tensors for u in after] == [u.tensors for u in fresh]
    assert [u.metric_after for u in after] == [u.metric_after for u in fresh]
    assert not any(update.label for update in after)


# --- one student ---------------------------------------------------------------------------------

def test_a_restarted_student_is_let_in_at_once(make_server, student, pictures):
    server = make_server()
    Robot(student, 1).play(server, pictures[:2])
    restarted = Robot(student, 2)
    assert Status.DONE in statuses(restarted.play(server, pictures[2:5]))
    assert not restarted.client.counters.key_frames_refused


def test_of_two_students_the_older_is_served(make_server, student, pictures):
    server, first, second = make_server(), Robot(student, 1), Robot(student, 2)
    first.play(server, pictures[:2])
    second.play(server, pictures[:1])  # it might be the first after a restart
    updates = first.play(server, pictures[2:4])
    assert not any(update.label for update in updates), 'its session was kept'
    for picture in pictures[:3]:
        with pytest.raises(KeyFrameError, match='/robot1/student.*/robot2/student') as caught:
            second.ask(server, picture)
        assert caught.value.reason == 'another_student'
        assert not any(update.label for update in first.play(server, [picture]))
    # A reset of the first is no third student.
    again = Robot(student, 1)
    assert not any(update.label for update in again.play(server, pictures[:4]))
    with pytest.raises(KeyFrameError):
        second.ask(server, pictures[0])


def test_a_second_student_is_let_in_once_the_first_is_gone_or_silent(
        make_server, student, pictures):
    for way in ('gone', 'silent'):
        now = [1000.0]
        server, first, second = make_server(), Robot(student, 1), Robot(student, 2)
        server._clock = lambda: now[0]
        first.play(server, pictures[:1])
        second.play(server, pictures[:1])
        first.play(server, pictures[1:2])
        with pytest.raises(KeyFrameError):
            second.ask(server, pictures[0])
        now[0] += SILENCE - 1
        with pytest.raises(KeyFrameError):
            second.ask(server, pictures[0])
        if way == 'silent':
            now[0] += 2
        assert second.ask(server, pictures[0], alone=way == 'gone')


@pytest.mark.parametrize('alone', [(True, False), (False, True)])
def test_a_student_that_was_alone_is_the_older_one(
        make_server, student, pictures, settings, alone):
    settings.max_updates = 0
    server, first, second = make_server(), Robot(student, 1), Robot(student, 2)
    first.ask(server, pictures[0])
    for one in alone:
        second.ask(server, pictures[0], alone=one)
    first.ask(server, pictures[0])  # it might be the second after a restart
    second.ask(server, pictures[0])
    with pytest.raises(KeyFrameError):
        first.ask(server, pictures[0])


# --- settings changed at run time ---------------------------------------------------------------

def test_a_new_scope_and_encoding_take_effect(make_server, student, pictures, settings):
    server, robot = make_server(), Robot(student)
    settings.threshold, settings.share = 0.99, 1.0
    for scope, encoding in (('partial', 'fp32'), ('full', 'fp16'), ('partial', 'fp16')):
        settings.scope, settings.encoding = scope, encoding
        updates = [u for u in robot.play(server, pictures[:4]) if u.status == Status.DONE]
        assert updates, 'no proof'
        assert {u.tensors.encoding for u in updates} == {encoding}
        assert [names(u, student) for u in updates] == (
            [list(student.tensors(scope))] * len(updates))


def test_a_scope_changed_during_training_waits_for_the_next_key_frame(
        make_server, student, pictures, settings):
    settings.scope = 'full'
    update = make_server().on_key_frame(
        key_frame(student, pictures[0]), lambda: setattr(settings, 'scope', 'partial'))
    assert names(update, student) == list(student.tensors())


def test_the_answer_says_the_threshold_that_it_was_trained_against(
        make_server, student, pictures, settings):
    settings.max_updates = 1
    update = make_server().on_key_frame(
        key_frame(student, pictures[0]), lambda: setattr(settings, 'threshold', 0.1))
    assert update.threshold == 0.8


def test_frames_of_any_size(make_server, student, pictures):
    robot = Robot(student)
    robot.play(make_server(), [pictures[0], pictures[1][:50, :71].copy(), pictures[2]])
    assert np.isfinite(robot.client.last_update.metric_after)
