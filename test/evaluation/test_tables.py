"""Tables and plots of results."""

import cv2
import pytest

from shadowtutor_ros.algorithms.analytic_model import Costs, throughput_bounds
from shadowtutor_ros.evaluation.plots import bounds_over_bandwidth, write_plots
from shadowtutor_ros.evaluation.tables import (
    baseline_table, group, kbit_per_s, paper_tables, summary_table)

PROFILE = {'t_si': 0.15, 't_sd': 0.02, 't_ti': 0.11, 't_sd_full': 0.1}


def a_run(video='a.mp4', method='partial', delay=None, link=None, miou=0.5, fps=0, label='',
          **changes):
    """Return a run as results.json holds it; on the network where a link is given."""
    records = [{'frame': frame, 'bytes_up': 1000 + frame, 'bytes_down': 500}
               for frame in (0, 8, 16)] if method != 'wild' else []
    return {
        'video': video, 'label': label, 'method': method, 'update_delay': delay,
        'mbit_per_s_link_up': link, 'mbit_per_s_link_down': link,
        'settings': {'min_stride': 8, 'max_stride': 64, 'max_updates': 8, 'late_update': 'wait',
                     'drift': 0.0, 'still': 0.0, 'stride_rate': 0.0},
        'conditions': {'fps': fps, 'profile': PROFILE, 'link': link and {
            'bandwidth_up': link * 1e6, 'bandwidth_down': link * 1e6, 'latency': 0.0,
            'loss': 0.0}},
        'frames': 20, 'rate': fps or 30, 'miou': miou, 'miou_present': miou + 0.1,
        'key_frames': len(records), 'key_frame_ratio': len(records) / 20, 'steps': 6,
        'round_trip': 0.3,
        'bytes_up_per_key_frame': 1000, 'bytes_down_per_key_frame': 500, 'bytes_per_frame': 225.0,
        'kbit_per_s_at_rate': 225 * 8e-3 * (fps or 30),
        'seconds': link and 4.0, 'fps': link and 5.0, 'mbit_per_s': link and 0.3,
        'mbit_per_s_up': link and 0.2, 'mbit_per_s_down': link and 0.1,
        'cycle_fps': link and 5.5, 'fps_bounds': link and {'lower': 1.0, 'upper': 6.0},
        'cycle_mbit_per_s': link and 0.2, 'mbit_per_s_bounds': link and {
            'lower': 0.1, 'upper': 0.9}, 'within_bounds': link and True,
        'key_frame_records': records, 'miou_by_frame': [miou] * 19 + [None],
        'miou_present_by_frame': [miou] * 20, **changes}


def rows(table, title):
    """Return the cells of the table below a title that begins so."""
    (part,) = [part for part in table.split('### ') if part.startswith(title)]
    lines = [line for line in part.splitlines() if line.startswith('|')]
    return [[cell.strip() for cell in line.strip('|').split('|')] for line in lines
            if not line.startswith('| ---')]


def test_tables_have_the_papers_layout():
    runs = [run for video, miou in (('a.mp4', 0.5), ('b.mp4', 0.7)) for run in (
        a_run(video, 'wild', miou=0.2), a_run(video, 'partial', 1, miou=miou),
        a_run(video, 'partial', 8, miou=miou), a_run(video, 'full', 1, miou=miou),
        a_run(video, link=80.0, miou=miou), a_run(video, 'full', link=80.0),
        a_run(video, 'naive', link=80.0, miou=1.0, cycle_fps=None, fps_bounds=None))]
    text = paper_tables(runs)
    accuracy = rows(text, 'Mean IoU, %')
    assert accuracy[0] == ['video', 'Wild', 'P-1', 'P-8', 'F-1', 'Partial', 'Full', 'Naive']
    assert accuracy[1] == ['a.mp4', '20.00', '50.00', '50.00', '50.00', '50.00', '50.00', '100.00']
    assert accuracy[-1][:3] == ['**average**', '20.00', '60.00']
    assert rows(text, 'Mean IoU over the classes in the label')[1][2] == '60.00'
    assert rows(text, 'Throughput')[:2] == [
        ['video', 'Partial', 'Full', 'Naive'], ['a.mp4'] + 3 * ['5.00 (4.0)']]
    assert rows(text, 'Key frames')[1] == ['a.mp4', *(6 * ['15.00'])]
    assert rows(text, 'Network traffic')[1] == ['a.mp4', *(3 * ['0.30 (0.20 + 0.10)'])]
    bounds = rows(text, 'Measured against')
    assert len(bounds) == 1 + 4 and bounds[1] == [
        'a.mp4', 'Partial', '1.00', '5.50', '6.00', '0.100', '0.200', '0.900', 'yes']


def test_videos_at_another_rate_have_tables_of_their_own():
    text = paper_tables([
        a_run(delay=1, miou=0.6), a_run(delay=1, miou=0.5, fps=7.0),
        a_run(delay=8, miou=0.4, fps=7.0)])
    assert rows(text, 'Videos at 7 frames/s') == [
        ['video', 'P-1', 'P-8', 'key frames of P-8'], ['a.mp4', '50.00', '40.00', '15.00'],
        ['**average**', '50.00', '40.00', '15.00']]
    assert rows(text, 'Mean IoU, %')[1] == ['a.mp4', '60.00']


def test_series_have_names_that_tell_them_apart():
    runs = [a_run(link=80.0), a_run(link=8.0), a_run(delay=8), a_run(delay=8, fps=7.0),
            a_run(delay=8, label='int8'), a_run(link=8.0, mbit_per_s_link_down=16.0)]
    names = [one.name for one in group(runs)]
    assert names == ['Partial 80 Mbit/s', 'Partial 8 Mbit/s', 'P-8', 'P-8 at 7/s', 'int8 P-8',
                     'Partial 8/16 Mbit/s']


def test_a_row_for_each_configuration():
    series = group([a_run(delay=8, label='one'), a_run('b.mp4', delay=8, label='one', miou=0.7),
                    a_run(delay=8, label='two', bytes_per_frame=100.0)])
    header, one, two = rows(summary_table('Means', series), 'Means')
    assert header[-1] == 'kbit/s at 30 frames/s'
    assert one == ['one P-8', '2', '60.00', '70.00', '15.00', '1.0', '0.5', '2.0', '0.30', '225',
                   '54']
    header, one, two = rows(summary_table('Means', series, rate=7), 'Means')
    assert header[-1] == 'kbit/s at 7 frames/s' and (one[-1], two[-1]) == ('13', '6')
    assert kbit_per_s(series[1], 10.0) == pytest.approx(8)
    assert 'cannot be compared' in summary_table('', series)
    assert 'cannot be compared' not in summary_table('', series[:1])


def test_beside_a_baseline():
    baseline = {'a': {'p8': {'miou': 0.45, 'miou_present': 0.7, 'key_ratio': 0.1}}}
    text = baseline_table(
        [a_run(delay=8), a_run('other.mp4', delay=8), a_run(delay=1)], baseline)
    assert rows(text, 'P-8') == rows(text, 'P-8')[:1] + [
        [name, '50.0', '45.0', '+5.0', '60.0', '70.0', '-10.0', '15.0', '10.0', '+5.0']
        for name in ('a.mp4', '**average**')]
    assert 'P-1' not in text


def test_bounds_at_another_bandwidth_are_those_of_the_model():
    runs = [a_run(method=method, link=80.0) for method in ('partial', 'full', 'naive')]
    settings = {'min_stride': 8, 'max_stride': 64, 'max_updates': 8}
    for run, t_sd in zip(runs, (0.02, 0.1)):
        # The key frame of the last cycle, which is cut short, has 1016 bytes.
        slowest = throughput_bounds(Costs(0.15, t_sd, 0.11, 8 * 1508 / 4e4, 1), **settings)
        fastest = throughput_bounds(Costs(0.15, t_sd, 0.11, 8 * 1500 / 4e4, 1), **settings)
        bounds = bounds_over_bandwidth([run], 0.04)
        assert bounds.lower == pytest.approx(slowest.lower)
        assert bounds.upper == pytest.approx(fastest.upper)
    naive = bounds_over_bandwidth(runs[2:], 0.04)
    assert naive.upper == pytest.approx(1 / (8 * 1500 / 4e4 + 0.11))
    runs[0]['settings'] = {**runs[0]['settings'], 'late_update': 'continue'}
    assert bounds_over_bandwidth(runs[:1], 0.04).lower == 1 / 0.15


def test_plots_are_written_for_what_there_is(tmp_path):
    runs = [run for video in ('a.mp4', 'b c.mp4') for run in (
        a_run(video, 'wild'), a_run(video, delay=8, label='x'),
        *(a_run(video, method, link=link) for method in ('partial', 'naive')
          for link in (80.0, 8.0)))]
    paths = write_plots(runs, tmp_path)
    assert [path.name for path in paths] == [
        'bandwidth.png', 'accuracy.png', 'time_a.png', 'time_b_c.png', 'trade.png']
    for path in paths:
        assert cv2.imread(str(path)).std() > 10
    assert [path.name for path in write_plots(runs[:1], tmp_path)] == [
        'accuracy.png', 'time_a.png']
