"""Results as plots: accuracy by video, a run over time, bandwidth against bounds, the trade."""

from collections.abc import Callable
from dataclasses import fields
import math
from pathlib import Path
from typing import Any

import numpy as np

from shadowtutor_ros.algorithms.analytic_model import Bounds, Costs, throughput_bounds
from shadowtutor_ros.algorithms.client import analytic_strides, ClientSettings
from shadowtutor_ros.evaluation.profile import Link
from shadowtutor_ros.evaluation.tables import group, kbit_per_s, Run, Series

# More lines than this in one plot cannot be told apart.
_MOST_LINES = 8
_DPI = 100


def headless_pyplot() -> Any:
    """Import matplotlib.pyplot, which takes a while, for files alone."""
    import matplotlib
    matplotlib.use('Agg')
    from matplotlib import pyplot
    return pyplot


def write_plots(runs: list[Run], folder: Path, rate: float = 0.0) -> list[Path]:
    """
    Write all plots that the runs have something for.

    :param runs: as in results.json.
    :param folder: gets the PNG files.
    :param rate: frames a second that traffic is told for; 0: those of the videos.
    :returns: the files.
    """
    series, written = group(runs), []

    def write(name: str, plot: Callable[..., None], *arguments: Any) -> None:
        plot(*arguments, folder / name)
        written.append(folder / name)

    if len({run['mbit_per_s_link_up'] for run in runs} - {None}) > 1:
        write('bandwidth.png', plot_bandwidth, runs)
        # Of a sweep, the others show the fastest network alone.
        fastest = max(run['mbit_per_s_link_up'] or 0 for run in runs)
        series = [one for one in series
                  if one.runs[0]['mbit_per_s_link_up'] in (None, fastest)]
    # Naive offloading has the teacher's own labels: there is nothing to see.
    series = [one for one in series if one.method != 'naive']
    if series:
        write('accuracy.png', plot_accuracy, series)
        for video in dict.fromkeys(run['video'] for one in series for run in one.runs):
            write(f'time_{_file_name(video)}.png', plot_time, series, video)
            if any(len(run.get('health', ())) > 1 for _, run in _runs_of(series, video)):
                write(f'health_{_file_name(video)}.png', plot_health, series, video)
    if len([one for one in series if one.distils]) > 1:
        write('trade.png', plot_trade, series, rate)
    return written


def _file_name(video: str) -> str:
    stem = Path(video).stem if Path(video).suffix else video
    return ''.join(letter if letter.isalnum() or letter in '-_' else '_' for letter in stem)


def plot_accuracy(series: list[Series], path: Path) -> None:
    """Plot mean IoU of each video and method as bars, of both kinds."""
    pyplot = headless_pyplot()
    series = series[:_MOST_LINES]
    videos = list(dict.fromkeys(run['video'] for one in series for run in one.runs))
    figure, axes = pyplot.subplots(
        2, 1, sharex=True, figsize=(max(9, 1.5 + 0.7 * (len(videos) + 1)), 7.5),
        layout='constrained')
    width = 0.85 / len(series)
    for axis, field, kind in (
            (axes[0], 'miou', 'classes with a non-empty union'),
            (axes[1], 'miou_present', 'classes in the label')):
        for index, one in enumerate(series):
            values = {run['video']: run[field] for run in one.runs}
            heights = [100 * (values.get(video) or math.nan) for video in videos]
            places = np.arange(len(videos) + 1) + (index - (len(series) - 1) / 2) * width
            axis.bar(places, [*heights, 100 * one.mean(field)], width, label=one.name)
        axis.set_title(f'over {kind}', fontsize='medium', loc='right')
        axis.set(ylabel='mean IoU, %', ylim=(0, 100))
        axis.axvline(len(videos) - 0.5, color='0.5', linewidth=1)
        axis.grid(axis='y', alpha=0.3)
        axis.set_axisbelow(True)
    axes[1].set_xticks(
        range(len(videos) + 1), [*(Path(video).stem for video in videos), 'average'], rotation=30,
        horizontalalignment='right')
    axes[0].legend(
        loc='lower left', bbox_to_anchor=(0, 1.08), ncol=min(len(series), 4), fontsize='small')
    figure.savefig(path, dpi=_DPI)
    pyplot.close(figure)


def _runs_of(series: list[Series], video: str) -> list[tuple[str, Run]]:
    """Return the runs on a video, by the names of their series."""
    return [(one.name, run) for one in series for run in one.runs if run['video'] == video]


def plot_time(series: list[Series], video: str, path: Path) -> None:
    """Plot mean IoU and the key frames of each method over the frames of a video."""
    pyplot = headless_pyplot()
    runs = _runs_of(series, video)[:_MOST_LINES]
    figure, (accuracy, keys) = pyplot.subplots(
        2, 1, sharex=True, figsize=(10, 4 + 0.3 * len(runs)), layout='constrained',
        gridspec_kw={'height_ratios': (4, 0.3 + 0.4 * len(runs))})
    figure.suptitle(video)
    for row, (name, run) in enumerate(runs):
        color = f'C{row}'
        values = 100 * np.array([math.nan if value is None else value
                                 for value in run['miou_by_frame']])
        accuracy.plot(values, color=color, linewidth=1.2)
        keys.eventplot(
            [record['frame'] for record in run['key_frame_records']], lineoffsets=-row,
            linelengths=0.8, colors=color)
    accuracy.set(ylabel='mean IoU, %', ylim=(0, 100))
    accuracy.grid(alpha=0.3)
    keys.set(xlabel='frame', ylabel='key frames', ylim=(-len(runs) + 0.4, 0.6))
    keys.set_yticks(-np.arange(len(runs)), [
        f"{name}: mean {100 * run['miou']:.1f}, {run['key_frames']} key frames"
        for name, run in runs], fontsize='small')
    for row, text in enumerate(keys.get_yticklabels()):
        text.set_color(f'C{row}')
    keys.grid(axis='x', alpha=0.3)
    figure.savefig(path, dpi=_DPI)
    pyplot.close(figure)


def plot_health(series: list[Series], video: str, path: Path) -> None:
    """Plot mean IoU, memory and norms of the weights, minute by minute of a long video."""
    pyplot = headless_pyplot()
    figure, axes = pyplot.subplots(3, 1, sharex=True, figsize=(10, 7.5), layout='constrained')
    figure.suptitle(video)
    runs = [(name, run) for name, run in _runs_of(series, video)
            if run.get('health')][:_MOST_LINES]
    for row, (name, run) in enumerate(runs):
        minutes = np.arange(1, len(run['health']) + 1)
        values = np.array(run['miou_by_frame'], float)  # None becomes NaN
        length = round(60 * run['rate'])
        means = [100 * np.nanmean(values[(minute - 1) * length:minute * length])
                 for minute in minutes]
        axes[0].plot(minutes, means, color=f'C{row}', marker='.', label=name)
        for axis, key in ((axes[1], 'resident_megabytes'), (axes[2], 'norms')):
            axis.plot(minutes, [math.nan if one[key] is None else one[key]
                                for one in run['health']], color=f'C{row}')
    axes[0].set(ylabel='mean IoU of the minute, %', ylim=(0, 100))
    axes[1].set(ylabel='memory, MB', ylim=(0, None))
    axes[2].set(ylabel='norm of the weights,\ntimes that at the beginning', xlabel='minute')
    for axis in axes:
        axis.grid(alpha=0.3)
    axes[0].legend(loc='lower right', fontsize='small')
    figure.savefig(path, dpi=_DPI)
    pyplot.close(figure)


def plot_bandwidth(runs: list[Run], path: Path) -> None:
    """
    Plot throughput over bandwidth, measured and between the bounds of the analytic model.

    Measured is from key frame to key frame, as the bounds are. They are those of the cheapest and
    of the dearest key frame that any run with that method and label had.
    """
    pyplot = headless_pyplot()
    networked = [run for run in runs if run['mbit_per_s_link_up'] is not None]
    kinds: dict[tuple[str, str], list[Run]] = {}
    for run in networked:
        if _cycles(run):
            kinds.setdefault((run['label'], run['method']), []).append(run)
    megabits = [run['mbit_per_s_link_up'] for run in networked]
    bandwidths = np.geomspace(min(megabits) / 1.5, max(megabits) * 1.5, 200)
    figure, axis = pyplot.subplots(figsize=(9, 5.5), layout='constrained')
    for index, ((label, method), members) in enumerate(kinds.items()):
        color, name = f'C{index}', f'{label} {method}'.strip()
        curves = [bounds_over_bandwidth(members, bandwidth) for bandwidth in bandwidths]
        lower, upper = ([getattr(bounds, side) for bounds in curves]
                        for side in ('lower', 'upper'))
        if method == 'naive':
            axis.plot(bandwidths, upper, color=color, linestyle='--', linewidth=1,
                      label=f'{name}, model')
        else:
            axis.fill_between(bandwidths, lower, upper, color=color, alpha=0.12, linewidth=0)
            axis.plot(bandwidths, upper, color=color, linestyle='--', linewidth=1)
            axis.plot(bandwidths, lower, color=color, linestyle=':', linewidth=1,
                      label=f'{name}, bounds')
        field = 'fps' if method == 'naive' else 'cycle_fps'
        points = [(run['mbit_per_s_link_up'], run[field]) for run in members
                  if run[field] is not None]
        means = {place: np.mean([value for other, value in points if other == place])
                 for place, _ in sorted(points)}
        if points:  # with frames from key frame to key frame
            axis.plot(*zip(*points), '.', color=color, markersize=4, alpha=0.5)
            axis.plot(list(means), list(means.values()), 'o-', color=color,
                      label=f'{name}, measured mean')
    axis.set(xscale='log', xlabel='bandwidth up, Mbit/s', ylabel='throughput, frames/s',
             ylim=(0, None), xlim=(bandwidths[0], bandwidths[-1]))
    ticks = sorted(set(megabits))
    axis.set_xticks(ticks, [f'{tick:g}' for tick in ticks])
    axis.minorticks_off()
    axis.grid(alpha=0.3)
    axis.legend(fontsize='small')
    figure.savefig(path, dpi=_DPI)
    pyplot.close(figure)


def bounds_over_bandwidth(runs: list[Run], megabits: float) -> Bounds:
    """
    Bound the throughput at another bandwidth than the runs had.

    :param runs: of one method, on the same profile but for the bandwidth.
    :param megabits: Mbit/s up; the way down changes in the same ratio.
    :returns: frames a second. Naive offloading has no stride, so the bounds are those of its
        smallest and of its largest frame.
    """
    first = runs[0]
    link = Link(**first['conditions']['link'])
    link = link.scaled(1e6 * megabits / link.bandwidth_up)
    profile, settings = first['conditions']['profile'], first['settings']
    t_sd = profile['t_sd']
    if first['method'] == 'full' and profile['t_sd_full'] is not None:
        t_sd = profile['t_sd_full']
    # As both ways change alike, the dearest key frame is so at every bandwidth.
    times = [link.time_up(record['bytes_up']) + link.time_down(record['bytes_down'])
             for run in runs for record in _cycles(run)]
    if first['method'] == 'naive':
        return Bounds(1 / (max(times) + profile['t_ti']), 1 / (min(times) + profile['t_ti']))
    if settings['late_update'] == 'continue':
        return Bounds(1 / profile['t_si'], 1 / profile['t_si'])
    names = [field.name for field in fields(ClientSettings)]
    return Bounds.around(throughput_bounds(
        # The bytes have no part in these bounds but for the time they take.
        Costs(profile['t_si'], t_sd, profile['t_ti'], t_net, s_net=1.0),
        **strides, max_updates=settings['max_updates'])
        for t_net in (min(times), max(times))
        for strides in analytic_strides(ClientSettings(
            **{name: settings[name] for name in names if name in settings}), profile['t_si']))


def _cycles(run: Run) -> list[dict[str, Any]]:
    """Return the key frames that bounds are for: that of the last cycle, which is cut, is not."""
    records = run['key_frame_records']
    return records if run['method'] == 'naive' else records[:-1]


def plot_trade(series: list[Series], rate: float, path: Path) -> None:
    """
    Plot mean IoU against bytes: what each configuration costs, and what it gives.

    :param series: those that distil are the points.
    :param rate: frames a second that traffic is told for; 0: those of the videos.
    :param path: of the PNG file.
    """
    pyplot = headless_pyplot()
    from matplotlib.ticker import LogLocator, NullFormatter
    series = [one for one in series if one.distils]
    figure, axes = pyplot.subplots(1, 2, figsize=(12, 5), layout='constrained')
    at = f'{rate:g} frames/s' if rate else "the videos' rates"
    costs = [kbit_per_s(one, rate) for one in series]
    ticks = (1, 2, 5) if max(costs) > 4 * min(costs) else (1, 1.5, 2, 3, 4, 5, 6, 8)
    for axis, field, kind in (
            (axes[0], 'miou', 'classes with a non-empty union'),
            (axes[1], 'miou_present', 'classes in the label')):
        for index, (one, cost) in enumerate(zip(series, costs)):
            axis.plot(
                cost, 100 * one.mean(field), color=f'C{index % 10}',
                marker='osD^v<>P*X'[index // 10 % 10], linestyle='', markersize=8, label=one.name)
        axis.set_title(f'over {kind}', fontsize='medium', loc='right')
        axis.set(xscale='log', xlabel=f'traffic up and down at {at}, kbit/s',
                 ylabel='mean IoU, %')
        axis.margins(0.1)
        axis.grid(alpha=0.3, which='both')
        axis.xaxis.set_major_locator(LogLocator(subs=ticks))
        axis.xaxis.set_major_formatter('{x:g}')
        axis.xaxis.set_minor_formatter(NullFormatter())
    axes[1].legend(loc='upper left', bbox_to_anchor=(1, 1), fontsize='small')
    figure.savefig(path, dpi=_DPI)
    pyplot.close(figure)
