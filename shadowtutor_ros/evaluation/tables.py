"""Results as Markdown tables: those of the paper, and one with a row per configuration."""

from collections.abc import Callable
from dataclasses import dataclass
import math
from pathlib import Path
from typing import Any

import numpy as np

from shadowtutor_ros.evaluation.profile import Link

Run = dict[str, Any]

#: Names of the methods: with the network, and as the paper has them with a fixed delay.
_TITLES = {'wild': 'Wild', 'naive': 'Naive', 'partial': 'Partial', 'full': 'Full'}
_SHORT = {'partial': 'P', 'full': 'F'}


@dataclass(frozen=True)
class Series:
    """
    What is one column of a table, one line of a plot: the same method on many videos.

    :ivar name: for people, unique among those of an evaluation.
    :ivar runs: one for each video, in order.
    """

    name: str
    runs: tuple[Run, ...]

    @property
    def method(self) -> str:
        """The method's name."""
        return self.runs[0]['method']

    @property
    def on_network(self) -> bool:
        """Whether its updates came over the modelled network."""
        return self.runs[0]['mbit_per_s_link_up'] is not None

    @property
    def distils(self) -> bool:
        """Whether the student was trained."""
        return self.method in _SHORT

    def values(self, field: str) -> list[float]:
        """Return a number of each run, NaN where there is none."""
        return [math.nan if run[field] is None else run[field] for run in self.runs]

    def mean(self, field: str) -> float:
        """Return the mean over the videos that have a number, NaN if none has."""
        known = [value for value in self.values(field) if not math.isnan(value)]
        return float(np.mean(known)) if known else math.nan


def group(runs: list[Run]) -> list[Series]:
    """Put the runs of the same label, method, delay, link and rate together, as they come."""
    groups: dict[tuple, list[Run]] = {}
    for run in runs:
        key = (run['label'], run['method'], run['update_delay'], run['mbit_per_s_link_up'],
               run['mbit_per_s_link_down'], run['conditions']['fps'])
        groups.setdefault(key, []).append(run)
    links = {key[3:5] for key in groups if key[3] is not None}
    rates = {key[5] for key in groups}
    series = []
    for (label, method, delay, up, down, fps), members in groups.items():
        name = _TITLES[method] if delay is None else f'{_SHORT[method]}-{delay}'
        if up is not None and len(links) > 1:
            name += f' {Link.describe(up, down)}'
        if fps and len(rates) > 1:
            name += f' at {fps:g}/s'
        series.append(Series(f'{label} {name}'.strip(), tuple(members)))
    return series


def paper_tables(runs: list[Run]) -> str:
    """
    Write accuracy, key frames and traffic, and throughput in the layout of the paper's tables.

    :param runs: as in results.json. Those of another rate make tables of their own.
    """
    parts = []
    for fps in sorted({run['conditions']['fps'] for run in runs}):
        series = group([run for run in runs if run['conditions']['fps'] == fps])
        parts += _tables_at(f' at {fps:g} frames/s' if fps else '', series)
    return '\n'.join(parts)


def _tables_at(where: str, series: list[Series]) -> list[str]:
    tutored = [one for one in series if one.method != 'wild']
    parts = [
        _by_video(f'Mean IoU{where}, %', series, 'miou', 100),
        _by_video(f'Mean IoU over the classes in the label{where}, %', series, 'miou_present', 100)
    ]
    if tutored:
        parts.append(_by_video(
            f'Key frames{where}, % of all frames', tutored, 'key_frame_ratio', 100))
    delayed = [one for one in series if one.distils and not one.on_network]
    if where and delayed:
        parts.append(_with_key_frames(f'Videos{where}: mean IoU and key frames, %', delayed))
    networked = [one for one in series if one.on_network]
    if networked:
        parts += [
            _table(f'Network traffic{where}, Mbit/s on the virtual clock: total (up + down)',
                   networked, _traffic, [_traffic({
                       field: one.mean(field)
                       for field in ('mbit_per_s', 'mbit_per_s_up', 'mbit_per_s_down')})
                       for one in networked]),
            _table(f'Throughput{where}, frames/s (seconds in all) on the virtual clock', networked,
                   lambda run: _number(run['fps']) + (
                       f" ({run['seconds']:.1f})" if run['seconds'] else ''), [
                       f"{_number(one.mean('fps'))} ({_number(one.mean('seconds'), 1)})"
                       for one in networked])]
    bounded = [run for one in networked for run in one.runs if run['fps_bounds']]
    if bounded:
        parts.append(_bounds(f'Measured against the analytic bounds{where}, key frame to key '
                             'frame', networked))
    return parts


def summary_table(title: str, series: list[Series], rate: float = 0.0) -> str:
    """
    Write a row for each series, its means: accuracy, key frames, bytes. It is that of an ablation.

    :param title: of the table.
    :param series: the rows.
    :param rate: frames a second that kbit/s are told for; 0: those of the videos.
    """
    rates = {run['rate'] for one in series for run in one.runs}
    at = f'{rate:g} frames/s' if rate else (
        f'{rates.pop():g} frames/s' if len(rates) == 1 else "the videos' rates")
    header = ['', 'videos', 'mIoU, %', 'mIoU of present classes, %', 'key frames, %',
              'kB up per key frame', 'kB down per key frame', 'steps per key frame',
              's to its update', 'bytes per frame', f'kbit/s at {at}']
    rows = [[
        one.name, str(len(one.runs)),
        _number(100 * one.mean('miou')), _number(100 * one.mean('miou_present')),
        _number(100 * one.mean('key_frame_ratio')),
        _number(1e-3 * one.mean('bytes_up_per_key_frame'), 1),
        _number(1e-3 * one.mean('bytes_down_per_key_frame'), 1),
        _number(_steps(one), 1), _number(one.mean('round_trip')),
        f"{one.mean('bytes_per_frame'):.0f}",
        f'{kbit_per_s(one, rate):.0f}'] for one in series]
    note = ''
    if len({tuple(sorted(run['video'] for run in one.runs)) for one in series}) > 1:
        note = '\nNot all rows are of the same videos, so they cannot be compared as they are.\n'
    return _markdown(title, header, rows) + note


def kbit_per_s(series: Series, rate: float = 0.0) -> float:
    """Return the mean traffic up and down, at ``rate`` frames a second or the videos' own."""
    if rate:
        return 8e-3 * rate * series.mean('bytes_per_frame')
    return series.mean('kbit_per_s_at_rate')


def _steps(series: Series) -> float:
    shares = [run['steps'] / run['key_frames'] for run in series.runs if run['key_frames']]
    return float(np.mean(shares)) if shares else math.nan


def baseline_table(runs: list[Run], baseline: dict[str, dict[str, dict[str, float]]]) -> str:
    """
    Write accuracy and key frames beside those of another implementation.

    :param runs: as in results.json.
    :param baseline: by video (its file's name without the ending) and by 'wild', 'p8', 'p1', 'f1',
        …: miou, miou_present and key_ratio, 0 to 1.
    """
    parts = []
    for one in group(runs):
        run = one.runs[0]
        delay = run['update_delay']
        key = one.method if delay is None else f'{_SHORT[one.method].lower()}{delay}'
        rows, pairs = [], []
        for run in one.runs:
            other = baseline.get(Path(run['video']).stem, {}).get(key)
            if other is not None:
                pairs.append([(run[field], other[theirs]) for field, theirs in (
                    ('miou', 'miou'), ('miou_present', 'miou_present'),
                    ('key_frame_ratio', 'key_ratio'))])
                rows.append([run['video'], *_beside(pairs[-1])])
        if rows:
            rows.append(['**average**', *_beside(np.mean(pairs, axis=0))])
            parts.append(_markdown(f'{one.name} beside the baseline, %', [
                'video', 'mIoU', 'baseline', 'difference', 'mIoU present', 'baseline',
                'difference', 'key frames', 'baseline', 'difference'], rows))
    return '\n'.join(parts)


def _beside(pairs: Any) -> list[str]:
    cells = []
    for ours, theirs in pairs:
        cells += [f'{100 * ours:.1f}', f'{100 * theirs:.1f}', f'{100 * (ours - theirs):+.1f}']
    return cells


# --- one table -----------------------------------------------------------------------------------

def _by_video(title: str, series: list[Series], field: str, factor: float) -> str:
    return _table(
        title, series, lambda run: _number(None if run[field] is None else factor * run[field]),
        [_number(factor * one.mean(field)) for one in series])


def _table(
        title: str, series: list[Series], cell: Callable[[Run], str], averages: list[str]) -> str:
    """Write a row for each video, and one of averages; a column for each series."""
    columns = [{run['video']: cell(run) for run in one.runs} for one in series]
    videos = dict.fromkeys(run['video'] for one in series for run in one.runs)
    rows = [[video, *(column.get(video, '') for column in columns)] for video in videos]
    return _markdown(title, ['video', *(one.name for one in series)],
                     [*rows, ['**average**', *averages]])


def _traffic(run: Run) -> str:
    total, up, down = (_number(run[field]) for field in (
        'mbit_per_s', 'mbit_per_s_up', 'mbit_per_s_down'))
    return f'{total} ({up} + {down})'


def _with_key_frames(title: str, series: list[Series]) -> str:
    """Write the paper's table of videos at a low rate: accuracy of all, key frames of the last."""
    last = {run['video']: _number(100 * run['key_frame_ratio']) for run in series[-1].runs}
    rows = []
    for video in dict.fromkeys(run['video'] for one in series for run in one.runs):
        miou = [{run['video']: _number(100 * run['miou']) for run in one.runs}.get(video, '')
                for one in series]
        rows.append([video, *miou, last.get(video, '')])
    rows.append(['**average**', *(_number(100 * one.mean('miou')) for one in series),
                 _number(100 * series[-1].mean('key_frame_ratio'))])
    return _markdown(
        title, ['video', *(one.name for one in series), f'key frames of {series[-1].name}'], rows)


def _bounds(title: str, series: list[Series]) -> str:
    rows = []
    for one in series:
        for run in one.runs:
            if run['fps_bounds']:
                fps, traffic = run['fps_bounds'], run['mbit_per_s_bounds']
                rows.append([
                    run['video'], one.name,
                    _number(fps['lower']), _number(run['cycle_fps']), _number(fps['upper']),
                    _number(traffic['lower'], 3), _number(run['cycle_mbit_per_s'], 3),
                    _number(traffic['upper'], 3), 'yes' if run['within_bounds'] else '**no**'])
    return _markdown(title, [
        'video', '', 'frames/s at least', 'measured', 'at most', 'Mbit/s at least', 'measured',
        'at most', 'within'], rows)


def _number(value: float | None, digits: int = 2) -> str:
    return '' if value is None or math.isnan(value) else f'{value:.{digits}f}'


def _markdown(title: str, header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ['---'] * len(header), *rows]
    table = '\n'.join(f"| {' | '.join(line)} |" for line in lines)
    return f'### {title}\n\n{table}\n'
