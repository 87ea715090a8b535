"""A soak over time, as a PNG."""

from pathlib import Path
from statistics import fmean
from typing import Any

from shadowtutor_ros.evaluation.plots import headless_pyplot
from shadowtutor_ros.reliability.record import Record, Sample, sums
from shadowtutor_ros.reliability.soak_report import MASKS

_DPI = 100

#: Samples that make one point of what is counted.
_SPAN = 5


def plot(record: Record, path: Path) -> None:
    """Plot the run over time as a PNG."""
    pyplot = headless_pyplot()
    figure, axes = pyplot.subplots(
        5, 1, sharex=True, figsize=(11, 12.5), layout='constrained')
    _plot_masks(axes[0], record)
    _plot_times(axes[1], record)
    _plot_updates(axes[2], record)
    _plot_bytes(axes[3], record)
    _plot_memory(axes[4], record)
    for axis in axes:
        axis.grid(alpha=0.3)
        for one in record.happenings:
            axis.axvspan(
                one.begin - record.begin, min(one.end, record.end) - record.begin,
                color='tab:red' if not one.robot else 'tab:orange', alpha=0.12,
                linewidth=0.8, zorder=0)
    _name_faults(axes[0], record)
    axes[-1].set(xlabel='seconds', xlim=(0, max(1.0, record.end - record.begin)))
    for axis in axes:
        if axis.get_legend_handles_labels()[0]:
            axis.legend(loc='upper left', bbox_to_anchor=(1, 1), fontsize='small')
    figure.savefig(path, dpi=_DPI)
    pyplot.close(figure)


def _name_faults(axis: Any, record: Record) -> None:
    """Write above a plot which faults there were, as far as they do not lie on one another."""
    room, last = (record.end - record.begin) / 75, -1e9
    for one in record.happenings:
        at = one.begin - record.begin
        if at - last < room:
            continue
        last = at
        axis.annotate(
            f"{one.name} {one.robot.removeprefix('robot')}".strip(), (at, 1.02),
            xycoords=('data', 'axes fraction'), rotation=90, fontsize=6,
            horizontalalignment='left', verticalalignment='bottom')


def _spans(record: Record) -> list[tuple[Sample, Sample]]:
    """Return samples that are :data:`_SPAN` apart, two and two."""
    chosen = record.samples[::_SPAN]
    return list(zip(chosen, chosen[1:]))


def _plot_masks(axis: Any, record: Record) -> None:
    times, least, mean = [], [], []
    for before, after in _spans(record):
        shares = [
            min(1.0, done.masks_in_time / done.frames) for name in after.totals
            if (done := after.totals[name] - before.totals[name]).frames]
        if shares:
            times.append(after.time - record.begin)
            least.append(100 * min(shares))
            mean.append(100 * fmean(shares))
    axis.plot(times, mean, label='all robots')
    axis.plot(times, least, linewidth=0.8, label='the one with least')
    axis.axhline(100 * MASKS, color='0.5', linestyle=':', linewidth=1)
    axis.set(ylabel='masks in time, %', ylim=(min([*least, 90]) - 2, 101))


def _plot_times(axis: Any, record: Record) -> None:
    delays = sorted(
        (one.answered - record.begin, one.answered - one.sent)
        for account in record.accounts.values() for one in account.answered(record.begin))
    waits = [(one.time - record.begin, one.waiting) for one in record.served
             if one.time >= record.begin]
    for values, label in ((delays, 'update comes after'), (waits, 'waited at the teacher')):
        if values:
            axis.plot(*zip(*values), '.', markersize=3, label=label)
    axis.set(ylabel='seconds', ylim=(0, None))


def _plot_updates(axis: Any, record: Record) -> None:
    spans = [(after.time - record.begin, after.time - before.time,
              sums(after.totals) - sums(before.totals)) for before, after in _spans(record)]
    series: dict[str, list[float]] = {'applied': [done.applied for _, _, done in spans]}
    for kind in ('refused', 'rejected'):
        for reason in sorted({reason for *_, done in spans for reason in getattr(done, kind)}):
            series[f'{kind}: {reason}'] = [getattr(done, kind)[reason] for *_, done in spans]
    series['timed out'] = [done.timed_out for *_, done in spans]
    if spans:
        axis.stackplot([at for at, *_ in spans], *(
            [value / seconds for value, (_, seconds, _) in zip(values, spans)]
            for values in series.values()), labels=list(series), step='pre')
    axis.set(ylabel='key frames a second')


def _plot_bytes(axis: Any, record: Record) -> None:
    spans = _spans(record)
    times = [after.time - record.begin for _, after in spans]
    for way, label in (('bytes_up', 'up'), ('bytes_down', 'down')):
        axis.plot(times, [
            8e-3 * (getattr(sums(after.totals), way) - getattr(sums(before.totals), way))
            / (after.time - before.time) for before, after in spans], label=label)
    axis.set(ylabel='all robots, kbit/s', ylim=(0, None))


def _plot_memory(axis: Any, record: Record) -> None:
    times = [sample.time - record.begin for sample in record.samples]
    for label, values in (
            ('teacher', [sample.teacher_bytes for sample in record.samples]),
            ('of it key frames', [sample.remembered_bytes for sample in record.samples]),
            ('all robots', [sample.robots_bytes for sample in record.samples])):
        axis.plot(times, [float('nan') if value is None else value / 1e6 for value in values],
                  label=label)
    axis.set(ylabel='memory, MB', ylim=(0, None))
