"""A soak as tables: for the terminal and in Markdown; and its files."""

from collections import Counter
import json
from pathlib import Path
from typing import Any, Iterable, Sequence

from shadowtutor_ros.reliability.account import Happening, in_words
from shadowtutor_ros.reliability.record import Record
from shadowtutor_ros.reliability.soak_plot import plot
from shadowtutor_ros.reliability.soak_report import make_report

#: Two tables of the robots: what became of frames and key frames; times, traffic, and reasons.
COUNT_HEAD = (
    'robot', 'frames', 'masks in time', 'key frames', 'updates', 'timed out', 'taken by faults',
    'lost')
TIME_HEAD = (
    'robot', 'waited, s', 'update after, s', 'kB up', 'kB down', 'key frames refused',
    'updates rejected')


def count_rows(report: dict[str, Any]) -> list[list[str]]:
    """Return a row for each robot, below :data:`COUNT_HEAD`."""
    return [[
        one['name'], f"{one['frames']:,}", _percent(one['masks_in_time'], one['frames']),
        str(one['key_frames']), str(one['updates_applied']), str(one['timed_out']),
        str(one['key_frames_by_fate']['taken']), str(one['key_frames_by_fate']['lost'])]
        for one in report['robots']]


def time_rows(report: dict[str, Any]) -> list[list[str]]:
    """Return a row for each robot, below :data:`TIME_HEAD`; times: median (95 %)."""
    return [[
        one['name'], _two(one['waiting_s']), _two(one['update_after_s']),
        f"{one['bytes_up'] / 1e3:,.0f}", f"{one['bytes_down'] / 1e3:,.0f}",
        in_words(Counter(one['refused'])), in_words(Counter(one['rejected']))]
        for one in report['robots']]


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
    ('update_after_s', 'an update comes after'), ('period_s', 'a key frame comes every'))


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
        f"key frame wanted every {model['wanted_period_s']:.2f} s"
        + ('; without what faults concerned' if model['disturbed'] else ''))


def as_markdown(report: dict[str, Any]) -> str:
    """Return a report as tables in Markdown."""
    faults = Counter(one['text'] for one in report['faults'])
    parts = [
        _markdown(COUNT_HEAD, count_rows(report)), _markdown(TIME_HEAD, time_rows(report)),
        _markdown(('teacher', ''), teacher_rows(report))]
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
    # A mask may be of an image that was handed over before the count began.
    return f'{min(1.0, part / whole):.1%}' if whole else '–'


def _share(value: float | None) -> str:
    return '–' if value is None else f'{value:.0%} of the time'


def _two(spread: dict[str, float | None]) -> str:
    """Return median and 95 % quantile."""
    if spread['median'] is None:
        return '–'
    return f"{spread['median']:.2f} ({spread['95 %']:.2f})"


def last_fault(happenings: Sequence[Happening]) -> str:
    """Say which fault was put in last."""
    if not happenings:
        return ''
    one = happenings[-1]
    return f"{one.robot or 'all'}: {one.text}"


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
