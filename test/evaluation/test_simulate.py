"""The system on a virtual clock."""

from dataclasses import replace

import numpy as np
import pytest

from shadowtutor_ros.algorithms.client import ClientSettings
from shadowtutor_ros.algorithms.server import ServerSettings
from shadowtutor_ros.evaluation.profile import load_profile
from shadowtutor_ros.evaluation.scenes import Scene
from shadowtutor_ros.evaluation.simulate import Method, Simulation
from shadowtutor_ros.models.inference import InferenceEngine
from shadowtutor_ros.models.student import Student
from shadowtutor_ros.models.teachers.base import TeacherPrediction

PAPER = load_profile('paper')
FRAMES = 40


@pytest.fixture(scope='module')
def clip():
    scene = Scene(3, 'day', 96, 64)
    samples = [scene.render(index) for index in range(FRAMES)]
    return ([sample.image for sample in samples],
            [TeacherPrediction(sample.label, sample.boxes) for sample in samples])


@pytest.fixture(scope='module')
def student():
    import torch
    torch.manual_seed(0)
    return Student().eval()


def simulate(clip, student, name='partial', profile=PAPER, on_frame=None, teacher=None, **options):
    options = {'client': ClientSettings(late_update='wait', update_timeout=1e9),
               'server': ServerSettings(max_updates=2), 'image_format': 'raw', **options}
    frames, labels = clip
    simulation = Simulation(Method(name, **options), student, profile, teacher)
    return simulation.run(frames, labels, on_frame or (lambda index, mask: None))


def with_link(**link):
    return replace(PAPER, link=replace(PAPER.link, **link))


def test_wild_is_the_student_alone(clip, student):
    masks = {}
    run = simulate(clip, student, 'wild', on_frame=masks.__setitem__)
    engine = InferenceEngine(student)
    assert all(np.array_equal(masks[index], engine(frame)) for index, frame in enumerate(clip[0]))
    assert run.key_frames == [] and run.seconds == pytest.approx(FRAMES * PAPER.t_si)


def test_naive_is_the_teacher_on_every_frame(clip, student):
    run = simulate(clip, student, 'naive')
    assert run.miou == run.miou_present == 1
    assert len(run.key_frames) == FRAMES
    up = PAPER.link.time_up(96 * 64 * 3)
    assert run.seconds > FRAMES * (up + PAPER.t_ti)


@pytest.mark.parametrize('delay', [1, 3, 8])
def test_an_update_takes_effect_so_many_frames_later(clip, student, delay):
    masks, run = {}, None
    run = simulate(clip, student, update_delay=delay, on_frame=masks.__setitem__,
                   server=ServerSettings(max_updates=2, threshold=0.99))
    engine = InferenceEngine(student)
    same = [np.array_equal(masks[index], engine(clip[0][index])) for index in range(delay + 1)]
    assert all(same[:delay]) and run.key_frames[0].steps == 2
    if run.key_frames[0].metric_after > run.key_frames[0].metric_before:
        assert not same[delay]


def test_strides_follow_algorithm_2(clip, student):
    run = simulate(clip, student, update_delay=1)
    for record, following in zip(run.key_frames, run.key_frames[1:]):
        assert following.frame - record.frame == record.next_stride


@pytest.mark.parametrize('method', ['partial', 'full'])
@pytest.mark.parametrize('megabits', [0.05, 0.5, 8, 80])
def test_throughput_and_traffic_lie_within_the_bounds(clip, student, method, megabits):
    run = simulate(
        clip, student, method,
        with_link(bandwidth_up=megabits * 1e6, bandwidth_down=megabits * 1e6))
    slack = 1e-9
    assert (run.throughput_bounds.lower * (1 - slack) <= run.cycle_throughput
            <= run.throughput_bounds.upper * (1 + slack))
    assert (run.traffic_bounds.lower * (1 - slack) <= run.cycle_traffic
            <= run.traffic_bounds.upper * (1 + slack))


def test_a_client_that_goes_on_is_not_slowed_by_the_network(clip, student):
    slow = with_link(bandwidth_up=1e4, bandwidth_down=1e4)
    run = simulate(clip, student, profile=slow, client=ClientSettings(update_timeout=1e9))
    assert run.seconds == pytest.approx(FRAMES * PAPER.t_si)
    waiting = simulate(clip, student, profile=slow)
    assert waiting.seconds > run.seconds


def test_lost_messages_are_survived(clip, student):
    run = simulate(
        clip, student, profile=with_link(loss=0.5),
        client=ClientSettings(late_update='continue', update_timeout=0.5))
    lost = [record.lost for record in run.key_frames]
    assert any(lost) and not all(lost)
    simulation = Simulation(
        Method('partial', client=ClientSettings(update_timeout=0.5)), student,
        with_link(loss=1.0))
    simulation.run(*clip)
    assert simulation.client.counters.updates_applied == 0
    assert simulation.client.counters.updates_lost > 0


def test_the_teacher_sees_what_the_codec_delivers(clip, student):
    seen = []

    def teacher(frame):
        seen.append(frame)
        return TeacherPrediction(np.full(frame.shape[:2], 8, np.uint8), np.zeros((0, 4)))

    run = simulate(clip, student, teacher=teacher, image_format='jpeg', quality=30)
    assert len(seen) == len(run.key_frames)
    assert not np.array_equal(seen[0], clip[0][0]) and seen[0].shape == clip[0][0].shape
    assert run.key_frames[0].bytes_up < 96 * 64 * 3 / 2


def test_same_run_twice_is_the_same(clip, student):
    runs = [simulate(clip, student) for _ in range(2)]
    assert runs[0] == runs[1]


def test_unknown_method_is_refused(student):
    with pytest.raises(ValueError, match='magic'):
        Simulation(Method('magic'), student, PAPER)
