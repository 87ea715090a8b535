"""What is kept of a run."""

import csv
import json
from pathlib import Path

import pytest

from shadowtutor_ros.algorithms.analytic_model import Bounds
from shadowtutor_ros.classes import LVS
from shadowtutor_ros.evaluation.evaluator import Labelling, Trial
from shadowtutor_ros.evaluation.profile import load_profile
from shadowtutor_ros.evaluation.results import (
    identify, load_runs, Results, ResultsError, summarize)
from shadowtutor_ros.evaluation.simulate import KeyFrameRecord, Method, Run
from shadowtutor_ros.sources.videos import Clip


def trial(name='partial', delay=None, video='film.mp4', real_time=False):
    return Trial(
        Labelling(video, Clip(video, 640, 40, 7.0), 'scene', 'DEFAULT', 'cpu', Path('cache'), LVS),
        'student.pth', Method(name, delay), load_profile('paper'), real_time=real_time)


def identity(*arguments, label='', learning_rate=0.01, threads=1, **options):
    return identify(
        trial(*arguments, **options), label, {'learning_rate': learning_rate}, 0x12, threads)


def a_run():
    return Run(
        20, 3, 4.0, [0.5, 0.7], [0.6, float('nan')], [
            KeyFrameRecord(0, 0.0, 0.4, 0.8, 8, 1000, 500, next_stride=10, round_trip=0.25),
            KeyFrameRecord(10, 2.0, float('nan'), 0.8, 2, 3000, 0, lost=True)],
        Bounds(4.0, 6.0), Bounds(1000.0, 9000.0))


def test_the_figures_of_a_run_by_hand():
    summary = summarize(identity(), 7.0, a_run())
    wanted = {
        'video': 'film.mp4', 'method': 'partial', 'update_delay': None, 'frames': 20,
        'dropped': 3, 'rate': 7.0,
        'mbit_per_s_link_up': 80.0, 'miou': 0.6, 'miou_present': 0.6, 'key_frames': 2,
        'key_frame_ratio': 0.1, 'steps': 10, 'lost': 1, 'round_trip': 0.25, 'bytes_up': 4000,
        'bytes_down': 500,
        'bytes_up_per_key_frame': 2000, 'bytes_down_per_key_frame': 250,
        'bytes_per_key_frame': 2250, 'bytes_per_frame': 225, 'seconds': 4.0, 'fps': 5.0,
        'kbit_per_s_at_rate': 225 * 8 * 7 / 1000, 'mbit_per_s_up': 0.008,
        'mbit_per_s_down': 0.001, 'mbit_per_s': 0.009, 'cycle_fps': 5.0,
        'cycle_mbit_per_s': 1500 * 8 / 2 * 1e-6, 'within_bounds': True}
    for name, value in wanted.items():
        assert summary[name] == (pytest.approx(value) if isinstance(value, float) else value), name
    assert summary['fps_bounds'] == {'lower': 4.0, 'upper': 6.0}
    assert summary['mbit_per_s_bounds'] == {
        'lower': pytest.approx(0.001), 'upper': pytest.approx(0.009)}
    json.dumps(summary, allow_nan=False)


def test_what_lies_outside_the_bounds_is_told():
    run = a_run()
    run.traffic_bounds = Bounds(1000.0, 5999.0)
    assert summarize(identity(), 7.0, run)['within_bounds'] is False


def test_a_fixed_delay_says_nothing_about_time():
    run = a_run()
    run.throughput_bounds = run.traffic_bounds = None
    summary = summarize(identity('partial', 8), 7.0, run)
    for name in ('seconds', 'round_trip', 'fps', 'mbit_per_s', 'cycle_fps', 'fps_bounds',
                 'within_bounds'):
        assert summary[name] is None
    # But where a camera gives the time.
    timed = identity('partial', 8, real_time=True)
    summary = summarize(timed, 7.0, run)
    assert timed['conditions']['real_time'] and not identity()['conditions']['real_time']
    assert summary['seconds'] == 4.0 and summary['round_trip'] == 0.25
    assert summary['kbit_per_s_at_rate'] > 0


def add(results, **options):
    results.add(summarize(identity(**options), 7.0, a_run()))


def test_files_are_written_and_gone_on_with(tmp_path):
    plan = [identity(video='a'), identity(video='b')]
    results = Results(tmp_path, False, plan)
    add(results, video='b')
    add(results, video='a')
    # In the order that was planned, whatever was done first.
    runs = load_runs(tmp_path / 'results.json')
    assert [run['video'] for run in runs] == ['a', 'b'] and runs == results.runs
    with (tmp_path / 'results.csv').open() as file:
        rows = list(csv.DictReader(file))
    assert [(row['video'], row['key_frames']) for row in rows] == [('a', '2'), ('b', '2')]

    resumed = Results(tmp_path, True, plan)
    assert resumed.has(identity(video='a'))
    assert not resumed.has(identity(video='a', learning_rate=0.1))
    assert not resumed.has(identity(video='a', threads=2))
    assert not resumed.has(identity('partial', 8, video='a'))
    add(resumed, video='a', learning_rate=0.1)
    add(resumed, video='a', label='another')
    assert [(run['video'], run['settings']['learning_rate'], run['label'])
            for run in load_runs(tmp_path / 'results.json')] == [
                ('a', 0.01, 'another'), ('a', 0.1, ''), ('b', 0.01, '')]


def test_earlier_results_are_kept_aside(tmp_path):
    add(Results(tmp_path, False, []), video='a')
    add(Results(tmp_path, False, []), video='b')
    assert load_runs(tmp_path / 'results.json')[0]['video'] == 'b'
    assert load_runs(tmp_path / 'results.json.bak')[0]['video'] == 'a'


@pytest.mark.parametrize('text, said', [
    ('{"runs": [{"video"', 'not JSON'), ('[]', 'not those of this version'),
    ('{"runs": [{"video": "a"}]}', 'not those of this version'),
    ('{"runs": 3}', 'not those of this version')])
def test_a_corrupt_file_is_named(tmp_path, text, said):
    (tmp_path / 'results.json').write_text(text)
    with pytest.raises(ResultsError, match=said) as error:
        Results(tmp_path, True, [])
    assert 'results.json' in str(error.value) and '\n' not in str(error.value)
    assert (tmp_path / 'results.json').read_text() == text


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ResultsError, match='cannot be read .* evaluate has written'):
        load_runs(tmp_path / 'results.json')
