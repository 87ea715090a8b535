"""The system on a virtual clock."""

from dataclasses import replace

import numpy as np
import pytest

from shadowtutor_ros.algorithms.client import ClientSettings, PATIENCE
from shadowtutor_ros.algorithms.server import ServerSettings
from shadowtutor_ros.classes import IGNORE
from shadowtutor_ros.evaluation.profile import load_profile
from shadowtutor_ros.evaluation.simulate import Method, Simulation
from shadowtutor_ros.models.student.inference import InferenceEngine
from shadowtutor_ros.models.student.shadow import Shadow
from shadowtutor_ros.models.teachers.base import TeacherPrediction
from shadowtutor_ros.wire.key_frame import format_fault
from shadowtutor_ros.world.scenes import Scene

PAPER = load_profile('paper')
FRAMES = 40


def with_link(**link):
    return replace(PAPER, link=replace(PAPER.link, **link))


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
    return Shadow().eval()


def papers_client(**changes):
    """Make a client that strides as the paper's does."""
    return ClientSettings(**{
        'min_stride': 8, 'stride_rate': 0.0, 'drift': 0.0, 'still': 0.0, **changes})


def simulate(clip, student, name='partial', profile=PAPER, on_frame=None, teacher=None, rate=0.0,
             **options):
    options = {'client': papers_client(late_update='wait', update_timeout=1e9),
               'server': ServerSettings(max_updates=2), 'image_format': 'raw', **options}
    frames, labels = clip
    simulation = Simulation(Method(name, **options), student, profile, teacher, rate=rate)
    return simulation.run(frames, labels, on_frame or (lambda index, mask: None))


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


def check_bounds(run):
    """Check that a run lies within its bounds."""
    slack = 1e-9
    assert (run.throughput_bounds.lower * (1 - slack) <= run.cycle_throughput
            <= run.throughput_bounds.upper * (1 + slack))
    assert (run.traffic_bounds.lower * (1 - slack) <= run.cycle_traffic
            <= run.traffic_bounds.upper * (1 + slack))


@pytest.mark.parametrize('method', ['partial', 'full'])
@pytest.mark.parametrize('late_update, up, down', [
    ('wait', 0.05, 0.05), ('wait', 0.5, 0.5), ('wait', 8, 8), ('wait', 80, 80), ('wait', 0.2, 20),
    ('continue', 5, 5), ('continue', 80, 80)])
def test_throughput_and_traffic_lie_within_the_bounds(
        clip, student, method, late_update, up, down):
    check_bounds(simulate(
        clip, student, method,
        with_link(bandwidth_up=up * 1e6, bandwidth_down=down * 1e6, latency=0.05),
        client=papers_client(late_update=late_update, update_timeout=1e9)))


@pytest.mark.parametrize('client, server', [
    ({'min_stride': 1, 'max_stride': 4}, {'max_updates': 0}),
    ({'min_stride': 3, 'max_stride': 3}, {'threshold': 0.99}),
    ({'min_stride': 2, 'max_stride': 16}, {'threshold': 0.1, 'encoding': 'fp16'}),
    ({'min_stride': 4, 'max_stride': 8, 'drift': 0.01}, {}),
    ({'min_stride': 2, 'max_stride': 3, 'still': 9.0, 'still_stride': 12}, {'threshold': 0.01})])
def test_bounds_hold_for_other_settings(clip, student, client, server):
    check_bounds(simulate(
        clip, student, profile=with_link(bandwidth_up=3e6, bandwidth_down=3e6),
        client=papers_client(late_update='wait', update_timeout=1e9, **client),
        server=ServerSettings(**{'max_updates': 2, **server})))


@pytest.mark.parametrize('options', [
    {'name': 'wild'}, {'name': 'naive'}, {'update_delay': 8},
    {'profile': with_link(loss=0.9)}, {'client': papers_client(min_stride=64)},
    {'client': papers_client(stride_rate=5.0)}])
def test_there_are_no_bounds_where_the_model_says_nothing(clip, student, options):
    run = simulate(clip, student, **options)
    assert run.throughput_bounds is None and run.traffic_bounds is None


def test_an_update_that_is_later_than_min_stride_is_not_waited_for_in_frames(clip, student):
    run = simulate(clip, student, update_delay=12)
    assert run.seconds == pytest.approx(FRAMES * PAPER.t_si)
    assert all(record.next_stride for record in run.key_frames[:-1])


def test_a_slow_robot_does_not_give_up_an_update_of_fixed_delay(clip, student):
    slow = replace(PAPER, t_si=100.0)
    client = papers_client(update_timeout=10.0)
    run = simulate(clip, student, profile=slow, update_delay=8, client=client)
    assert run.key_frames[0].next_stride is not None


def test_full_training_may_take_a_time_of_its_own(clip, student):
    server = ServerSettings(max_updates=2, threshold=0.99, training_seconds=0.0)
    slow = replace(PAPER, t_sd=1.0, t_sd_full=5.0)
    partial, full = (simulate(clip, student, name, slow, server=server)
                     for name in ('partial', 'full'))
    # The last is not waited for any more.
    assert full.seconds - partial.seconds >= 0.9 * (len(partial.key_frames) - 1) * 2 * 4
    check_bounds(full)


@pytest.mark.parametrize('seconds, steps', [(0.0, 4), (2.5, 3)])
def test_training_has_the_time_of_the_profile(clip, student, seconds, steps):
    # Of a student that is good enough, so that no step has to have helped by then.
    server = ServerSettings(
        max_updates=4, threshold=0.0, training_target=0.99, training_seconds=seconds)
    run = simulate(clip, student, profile=replace(PAPER, t_sd=1.0), server=server, update_delay=8)
    assert {record.steps for record in run.key_frames} == {steps}


def test_a_client_that_goes_on_is_not_slowed_by_the_network(clip, student):
    slow = with_link(bandwidth_up=1e4, bandwidth_down=1e4)
    run = simulate(clip, student, profile=slow, client=papers_client(update_timeout=1e9))
    assert run.seconds == pytest.approx(FRAMES * PAPER.t_si)
    waiting = simulate(clip, student, profile=slow)
    assert waiting.seconds > run.seconds


def test_a_camera_gives_its_frames_at_its_own_rate(clip, student):
    quick, slow = replace(PAPER, t_si=0.03), replace(PAPER, t_si=0.095)
    seen = []
    run = simulate(clip, student, 'wild', quick, rate=25.0, on_frame=lambda *_: seen.append(_[0]))
    assert seen == list(range(FRAMES)) and run.dropped == 0
    assert run.seconds == pytest.approx(FRAMES / 25)
    # What is there when the robot is done with the last one, and nothing that is older.
    seen.clear()
    run = simulate(clip, student, 'wild', slow, rate=25.0, on_frame=lambda *_: seen.append(_[0]))
    assert seen[:6] == [0, 2, 4, 7, 9, 11]
    assert run.frames == FRAMES and run.dropped == FRAMES - len(seen)
    assert [index for index, value in enumerate(run.miou_by_frame)
            if not np.isnan(value)] == seen
    assert run.miou == pytest.approx(np.nanmean(run.miou_by_frame))


@pytest.mark.parametrize('rate', [10.0, 20.0])
def test_strides_in_time_are_those_of_the_camera(clip, student, rate):
    # Four of them are 0.78 s.
    client = papers_client(stride_rate=5.1, min_stride=4, max_stride=4)
    run = simulate(clip, student, profile=replace(PAPER, t_si=0.03), update_delay=1, rate=rate,
                   client=client)
    assert [record.frame for record in run.key_frames] == list(range(0, FRAMES, int(0.8 * rate)))
    assert [record.round_trip for record in run.key_frames] == pytest.approx(
        len(run.key_frames) * [1 / rate])
    assert run.throughput_bounds is None


def test_a_camera_does_not_stand_where_the_client_waits(clip, student):
    slow = replace(with_link(latency=0.3), t_si=0.03, t_ti=0.0, t_sd=0.0)
    seen = []
    run = simulate(
        clip, student, profile=slow, rate=20.0, on_frame=lambda *_: seen.append(_[0]),
        client=papers_client(late_update='wait', min_stride=4))
    # Sent at 0 s, awaited at 4 masks, there 0.6 s later and some bytes.
    assert seen[:5] == [0, 1, 2, 3, 12]
    assert run.key_frames[0].round_trip == pytest.approx(0.6, abs=0.02)
    assert run.seconds == pytest.approx(FRAMES / 20)


def test_lost_messages_are_survived(clip, student):
    run = simulate(
        clip, student, profile=with_link(loss=0.5),
        client=papers_client(
            late_update='continue', update_timeout=0.5, min_stride=2, max_stride=2))
    lost = [record.lost for record in run.key_frames]
    assert any(lost) and not all(lost)
    simulation = Simulation(
        Method('partial', client=papers_client(update_timeout=0.5)), student,
        with_link(loss=1.0))
    simulation.run(*clip)
    assert simulation.client.counters.updates_applied == 0
    assert simulation.client.counters.updates_lost > 0


def test_the_teacher_sees_what_the_codec_delivers(clip, student):
    seen = []

    def teacher(frame, classes):
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


def test_late_answers_are_applied_as_the_nodes_do(clip, student):
    slow = replace(PAPER, t_ti=3.0, t_si=0.1)
    run = simulate(clip, student, profile=slow, client=papers_client(
        late_update='continue', update_timeout=2.0, min_stride=1, max_stride=1))
    assert len(run.key_frames) > 1
    # The second key frame was sent before the first was answered, and did not take its place.
    assert run.key_frames[1].seconds < 3.0 and run.key_frames[0].next_stride


@pytest.mark.parametrize('options', [
    {'client': papers_client(late_update='continue', update_timeout=0.5, min_stride=1)},
    {'client': papers_client(late_update='wait', update_timeout=0.5, min_stride=1)}])
@pytest.mark.parametrize('link', [{}, {'loss': 0.5}])
def test_a_link_carries_no_more_than_its_bandwidth(clip, student, options, link):
    size = 64 * 96 * 3
    # A key frame takes two seconds to the workstation, and a frame a tenth of one.
    run = simulate(clip, student, profile=replace(
        with_link(bandwidth_up=8 * size / 2, bandwidth_down=1e9, **link), t_si=0.1), **options)
    arrived = [record for record in run.key_frames if record.next_stride is not None]
    assert len(run.key_frames) > 3
    assert bool(arrived) or link
    assert len(arrived) <= run.seconds / 2


def test_a_key_frame_that_takes_too_long_expires_as_in_the_middleware(clip, student):
    size = 64 * 96 * 3
    slow = replace(with_link(bandwidth_up=8 * size / (PATIENCE * 0.5 + 1)), t_si=1.0)
    client = papers_client(late_update='continue', update_timeout=0.5)
    run = simulate(clip, student, profile=slow, client=client)
    assert len(run.key_frames) > 2 and all(record.lost for record in run.key_frames)
    # Where delays are given in frames the link has no say.
    run = simulate(clip, student, profile=slow, client=client, update_delay=8)
    assert run.key_frames and not any(record.lost for record in run.key_frames)


def test_a_frame_that_the_teacher_ignores_counts_nowhere(clip, student):
    frames, labels = clip
    ignored = TeacherPrediction(np.full((64, 96), IGNORE, np.uint8), labels[0].boxes)
    run = simulate((frames[:3], [labels[0], ignored, labels[2]]), student, 'wild')
    assert np.isnan(run.miou_by_frame[1])
    assert run.miou == pytest.approx(np.mean([run.miou_by_frame[0], run.miou_by_frame[2]]))


@pytest.mark.parametrize('loss', [0.0, 0.5])
def test_as_video_no_key_frame_refers_to_one_that_was_lost(clip, student, loss):
    if format_fault('video'):
        pytest.skip('there is no PyAV with AV1 here')
    sent = {}
    for image_format in ('png', 'video'):
        simulation = Simulation(Method(
            'partial', image_format=image_format, quality=70, server=ServerSettings(max_updates=2),
            client=papers_client(update_timeout=0.5, min_stride=2, max_stride=2)),
            student, with_link(loss=loss))
        sent[image_format] = simulation.run(*clip).key_frames
        # Or it could not be read.
        assert not simulation.client.counters.key_frames_refused
    assert any(one.lost for one in sent['video']) == bool(loss)
    assert len(sent['video']) == len(sent['png']) > 4
    assert 4 * sum(one.bytes_up for one in sent['video']) < sum(
        one.bytes_up for one in sent['png'])


def test_naive_offloading_takes_video_too(clip, student):
    if format_fault('video'):
        pytest.skip('there is no PyAV with AV1 here')
    sent = [record.bytes_up for record in simulate(
        clip, student, 'naive', image_format='video', quality=50).key_frames]
    assert len(sent) == len(clip[0]) and np.mean(sent[1:]) < sent[0]
