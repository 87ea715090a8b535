"""What a soak came to: judged, held against the queueing model, as tables, JSON and a plot."""

from collections import Counter
from dataclasses import asdict
import json
from pathlib import Path
from statistics import fmean, median, pvariance
from typing import Any, Iterable, Sequence

from shadowtutor_ros.algorithms.fleet_model import Service, teacher_load
from shadowtutor_ros.evaluation.plots import headless_pyplot
from shadowtutor_ros.reliability.account import between, Happening, in_words, quantile, Totals
from shadowtutor_ros.reliability.record import Record, Sample, sums

#: Share of a robot's images that have to have a mask before the next image is due.
MASKS = 0.95

#: By so much of it a process may have grown.
GROWTH = 0.1

#: Seconds: a process lives for so long before its memory is looked at, which is then the median
#: over so long, at the beginning and at the end.
_WARM_UP, _SPAN = 30.0, 60.0

#: What model and measurement may differ by; waiting times also by so much of a service.
AGREEMENT = 0.2

#: Key frames that a comparison needs at least.
_ENOUGH = 20

_DPI = 100
_PLOT_SPAN = 5.0

ROBOT_HEAD = (
    'robot', 'frames', 'masks in time', 'key frames', 'updates', 'refused', 'rejected',
    'timed out', 'taken, lost', 'waited s', 'update after s', 'kB up', 'kB down')


def make_report(record: Record) -> dict[str, Any]:
    """
    Judge a run.

    :returns: what goes into soak.json; times are seconds from its beginning, and None is what
        there is nothing to say of.
    """
    wrong = list(record.wrong)
    robots = [_robot(record, name, wrong) for name in record.accounts]
    memory = {
        'teacher': _memory(record, [
            (sample.time, sample.teacher_bytes and sample.teacher_bytes - sample.remembered_bytes)
            for sample in record.samples]),
        'robots': _memory(record, [
            (sample.time, sample.robots_bytes) for sample in record.samples])}
    for name, judged in memory.items():
        if judged['flat'] is False:
            wrong.append(
                f"the memory of the {name} grew from {judged['first'] / 1e6:.0f} to "
                f"{judged['last'] / 1e6:.0f} MB within {judged['seconds']:.0f} s, by more than "
                f'{GROWTH:.0%}')
    begin = record.begin
    return {
        'settings': asdict(record.settings), 'seconds': record.end - begin, 'robots': robots,
        'teacher': _teacher(record), 'memory': memory, 'model': compare(record),
        'faults': [{**asdict(one), 'begin': one.begin - begin, 'end': min(
            one.end, record.end) - begin} for one in record.happenings],
        'samples': [_sample(sample, begin) for sample in record.samples],
        'wrong': wrong}


def _robot(record: Record, name: str, wrong: list[str]) -> dict[str, Any]:
    account, begin, end = record.accounts[name], record.begin, record.end
    done = Totals()
    if record.samples:
        done = record.samples[-1].totals[name] - record.samples[0].totals[name]
    fates = account.fates(begin, end, record.happenings)
    in_time = done.masks_in_time / done.frames if done.frames else None
    if in_time is not None and in_time < MASKS:
        wrong.append(f'{name}: {in_time:.1%} of its images had a mask in time, {MASKS:.0%} are '
                     'wanted')
    if fates['lost']:
        wrong.append(f"{name}: {fates['lost']} key frames got no answer in time, without a fault")
    wrong += [f'{name}: {line}' for line in account.faults(begin, record.happenings)]
    delays = [one.answered - one.sent for one in account.answered(begin)]
    waiting = [one.waiting for one in record.served if one.robot == name and one.time >= begin]
    return {
        'name': name, 'video': record.videos[name], 'frames': done.frames, 'masks': done.masks,
        'masks_in_time': done.masks_in_time, 'key_frames': done.key_frames,
        'updates_applied': done.applied, 'updates_declined': done.declined,
        'refused': dict(done.refused), 'rejected': dict(done.rejected),
        'timed_out': done.timed_out, 'key_frames_by_fate': fates,
        'waiting_s': _spread(waiting), 'update_after_s': _spread(delays),
        'bytes_up': done.bytes_up, 'bytes_down': done.bytes_down}


def _spread(values: Sequence[float]) -> dict[str, float | None]:
    return {'median': quantile(values, 0.5), '95 %': quantile(values, 0.95)}


def _teacher(record: Record) -> dict[str, Any]:
    served = [one for one in record.served if one.time >= record.begin]
    return {
        'key_frames': len(served) + record.missed, 'missed': record.missed,
        'utilisation': _utilisation(record, record.begin),
        'waiting_s': _spread([one.waiting for one in served]),
        'service_s': _spread([one.service for one in served]),
        'times_killed': sum(one.name == 'teacher-killed' for one in record.happenings)}


def _utilisation(record: Record, since: float) -> float | None:
    """Return the share of the time that the teacher was serving key frames."""
    served = [one.service for one in record.served if one.time >= since]
    if not served or record.end <= since:
        return None
    # Of those that were missed no times are known; they are as the others.
    missed = record.missed * fmean(served)
    return min(1.0, (sum(served) + missed) / (record.end - since))


def _memory(record: Record, series: list[tuple[float, int | None]]) -> dict[str, Any]:
    """
    Judge whether a process has kept its size.

    A teacher that was killed begins anew: what is looked at is the longest time that the process
    was not; from half a minute after its beginning, so that it has loaded what it needs, the
    median of the first minute against that of the last. Key frames that the teacher remembers,
    within bounds that it states, are not counted.
    """
    lives, life = [], []
    for at, value in series:
        # A process that is new is loading, and much smaller.
        if value is None or life and value < 0.5 * life[-1][1]:
            lives.append(life)
            life = []
        if value is not None:
            life.append((at, value))
    life = max([*lives, life], key=len)
    seconds = life[-1][0] - life[0][0] if life else 0.0
    if seconds < _WARM_UP + 2 * _SPAN:
        last = median(value for _, value in life) if life else None
        return {'seconds': seconds, 'first': last, 'last': last, 'flat': None}
    begin, end = life[0][0] + _WARM_UP, life[-1][0]
    first = median(value for at, value in life if begin <= at <= begin + _SPAN)
    last = median(value for at, value in life if at >= end - _SPAN)
    return {'seconds': seconds, 'first': first, 'last': last,
            'flat': last <= (1 + GROWTH) * first}


def _sample(sample: Sample, begin: float) -> dict[str, Any]:
    done = sums(sample.totals)
    return {
        **vars(done), 'refused': dict(done.refused), 'rejected': dict(done.rejected),
        'time': sample.time - begin, 'teacher_bytes': sample.teacher_bytes,
        'robots_bytes': sample.robots_bytes, 'remembered_bytes': sample.remembered_bytes}


# --- the model -----------------------------------------------------------------------------------

def compare(record: Record) -> dict[str, Any] | None:
    """
    Hold what the queueing model makes of the measured times against what was measured.

    The first fifth is left out, half a minute at most: all robots have begun at the same time.

    :returns: None where too little was measured.
    """
    since = record.begin + min(30.0, 0.2 * (record.end - record.begin))
    served = [one for one in record.served if one.time >= since]
    answered = [one for account in record.accounts.values() for one in account.answered(since)]
    wanted = [seconds for account in record.accounts.values()
              for _, seconds in between(account.periods, since, record.end)]
    if min(map(len, (served, answered, wanted))) < _ENOUGH:
        return None
    service = [one.service for one in served]
    mean = fmean(service)
    answer = fmean(one.answered - one.sent for one in answered)
    # Of one key frame, so that it does not matter which the teacher's status has missed.
    t_net = max(0.0, fmean(one.answered - one.sent - one.total_seconds for one in answered))
    load = teacher_load(
        len(record.accounts), Service(mean, pvariance(service) / mean ** 2), t_net,
        fmean(wanted))
    measured = {
        'utilisation': _utilisation(record, since),
        'waiting_s': fmean(one.waiting for one in served), 'update_after_s': answer}
    predicted = {
        'utilisation': load.utilisation, 'waiting_s': load.waiting, 'update_after_s': load.answer}
    return {
        'key_frames': len(served), 't_ti_s': fmean(one.teacher for one in served),
        'training_s': fmean(one.training for one in served), 'service_s': mean,
        'service_variation': pvariance(service) / mean ** 2, 't_net_s': t_net,
        'period_s': fmean(wanted), 'measured': measured, 'predicted': predicted,
        'agrees': {name: abs(predicted[name] - value) <= AGREEMENT * value or (
            name == 'waiting_s' and abs(predicted[name] - value) <= AGREEMENT * mean)
            for name, value in measured.items()}}


# --- tables --------------------------------------------------------------------------------------

def robot_rows(report: dict[str, Any]) -> list[list[str]]:
    """Return a row for each robot, below :data:`ROBOT_HEAD`."""
    return [[
        one['name'], f"{one['frames']:,}", _percent(one['masks_in_time'], one['frames']),
        str(one['key_frames']), str(one['updates_applied']), in_words(Counter(one['refused'])),
        in_words(Counter(one['rejected'])), str(one['timed_out']),
        f"{one['key_frames_by_fate']['taken']}, {one['key_frames_by_fate']['lost']}",
        _two(one['waiting_s']), _two(one['update_after_s']), f"{one['bytes_up'] / 1e3:,.0f}",
        f"{one['bytes_down'] / 1e3:,.0f}"] for one in report['robots']]


def teacher_rows(report: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what there is to say of the teacher and of memory: what, and how much."""
    teacher, memory = report['teacher'], report['memory']
    rows = [
        ('key frames', f"{teacher['key_frames']} answered, over {report['seconds']:.0f} s"),
        ('at work', _share(teacher['utilisation'])),
        ('a key frame waited', f"{_two(teacher['waiting_s'])} s"),
        ('and was served in', f"{_two(teacher['service_s'])} s")]
    for name, judged in memory.items():
        text = 'unknown'
        if judged['first'] is not None:
            text = f"{judged['first'] / 1e6:,.0f} MB, then {judged['last'] / 1e6:,.0f} MB" if (
                judged['flat'] is not None) else f"{judged['first'] / 1e6:,.0f} MB (not judged)"
        rows.append((f'memory of the {name}', text))
    return rows


MODEL_HEAD = ('', 'measured', 'model')
_MODEL_ROWS = (
    ('utilisation', 'the teacher is at work'), ('waiting_s', 'a key frame waits'),
    ('update_after_s', 'an update comes after'))


def model_rows(model: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return rows below :data:`MODEL_HEAD`."""
    def shown(name: str, value: float) -> str:
        return f'{value:.1%}' if name == 'utilisation' else f'{1e3 * value:,.0f} ms'
    return [(text, shown(name, model['measured'][name]), shown(
        name, model['predicted'][name]) + ('' if model['agrees'][name] else ' (differs)'))
        for name, text in _MODEL_ROWS]


def model_inputs(model: dict[str, Any]) -> str:
    """Say what the model was given."""
    return (
        f"from {model['key_frames']} key frames: t_ti {1e3 * model['t_ti_s']:.0f} ms, training "
        f"{1e3 * model['training_s']:.0f} ms, service {1e3 * model['service_s']:.0f} ms (squared "
        f"variation {model['service_variation']:.2f}), t_net {1e3 * model['t_net_s']:.0f} ms, a "
        f"key frame wanted every {model['period_s']:.2f} s")


def as_markdown(report: dict[str, Any]) -> str:
    """Return a report as tables in Markdown."""
    faults = Counter(one['text'] for one in report['faults'])
    parts = [_markdown(ROBOT_HEAD, robot_rows(report)), _markdown(
        ('teacher', ''), teacher_rows(report))]
    if report['model']:
        parts.append(_markdown(MODEL_HEAD, model_rows(report['model'])))
        parts.append(f"{model_inputs(report['model'])}\n")
    if faults:
        parts.append(_markdown(('fault', 'times'), [
            (text, str(count)) for text, count in sorted(faults.items())]))
    parts.append(''.join(f'- {line}\n' for line in report['wrong']) or 'Nothing went wrong.\n')
    return '\n'.join(parts)


def _markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return ''.join(
        f"| {' | '.join(line)} |\n" for line in (head, ['---'] * len(head), *rows))


def _percent(part: int, whole: int) -> str:
    return f'{part / whole:.1%}' if whole else '–'


def _share(value: float | None) -> str:
    return '–' if value is None else f'{value:.0%} of the time'


def _two(spread: dict[str, float | None]) -> str:
    """Return median and 95 % quantile."""
    if spread['median'] is None:
        return '–'
    return f"{spread['median']:.2f} ({spread['95 %']:.2f})"


# --- files ---------------------------------------------------------------------------------------

def write_report(record: Record, folder: Path) -> tuple[dict[str, Any], list[Path]]:
    """
    Write soak.json, soak.md and soak.png.

    :returns: the report, and the files.
    """
    report = make_report(record)
    files = [folder / f'soak.{suffix}' for suffix in ('json', 'md', 'png')]
    files[0].write_text(json.dumps(report, indent=1) + '\n')
    files[1].write_text(as_markdown(report))
    plot(record, files[2])
    return report, files


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
                color='tab:red' if not one.robot else 'tab:orange', alpha=0.25, linewidth=0.8)
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
    """Return samples about :data:`_PLOT_SPAN` apart, two and two."""
    step = max(1, round(_PLOT_SPAN))
    chosen = record.samples[::step]
    return list(zip(chosen, chosen[1:]))


def _plot_masks(axis: Any, record: Record) -> None:
    times, least, mean = [], [], []
    for before, after in _spans(record):
        shares = [
            done.masks_in_time / done.frames for name in after.totals
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


def last_fault(happenings: Sequence[Happening]) -> str:
    """Say which fault was put in last."""
    if not happenings:
        return ''
    one = happenings[-1]
    return f"{one.robot or 'all'}: {one.text}"
