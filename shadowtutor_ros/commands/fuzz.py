"""Send noise and mutated messages to student and teacher, in memory: nothing may break."""

import argparse
from dataclasses import asdict
import json
from pathlib import Path
import platform
import sys
import time
from types import ModuleType

from rich.box import SIMPLE
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from shadowtutor_ros.commands import CommandError
from shadowtutor_ros.commands.progress import WorkProgress
from shadowtutor_ros.models.student.base import Student
from shadowtutor_ros.models.student.inference import use_threads


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the subcommand."""
    parser.add_argument(
        '--cases', type=int, default=20_000, help='messages, rounded up to whole sessions')
    parser.add_argument('--seed', type=int, default=0, help='a run with the same one is the same')
    parser.add_argument(
        '--report-only', action='store_true', help='show what was slow or large, but do not fail '
        'for it, where a busy machine has to do with it')
    parser.add_argument('--json', type=Path, metavar='FILE', help='also write the figures here')


def run(arguments: argparse.Namespace) -> int:
    """Send messages, and print what came of them; returns the exit status."""
    try:
        from shadowtutor_ros.reliability.fuzzing import (
            fuzz, FuzzError, MOST_MEMORY, Report, SLOWEST)
    except ModuleNotFoundError as error:
        if error.name != 'hypothesis':
            raise
        raise CommandError(
            'the messages are made by Hypothesis, which is not installed: pip install '
            '"hypothesis>=6.100,<7"') from None
    if arguments.cases < 1 or arguments.seed < 0:
        raise CommandError('--cases is 1 or above, and --seed 0 or above')
    use_threads(1)  # so that the CPU time of the thread is all of it
    console, report, messages = Console(), Report(), _messages()
    interrupted = False
    begin = time.perf_counter()
    with WorkProgress(
            TextColumn('messages'), BarColumn(20), TextColumn('{task.completed:,}/{task.total:,}'),
            TextColumn('{task.fields[rate]:.0f}/s'), TimeElapsedColumn(),
            console=console, transient=True) as progress:
        task = progress.add_task('', total=arguments.cases, rate=0.0)
        try:
            fuzz(arguments.cases, arguments.seed, Student.load(''), messages, report,
                 lambda: progress.update(
                     task, completed=report.cases,
                     rate=report.cases / (time.perf_counter() - begin)))
        except FuzzError as error:
            # All of it, as it is: it can be pasted into a test.
            print(f'shadowtutor: {error}', file=sys.stderr)
            return 1
        except KeyboardInterrupt:  # what was done until then is shown
            interrupted = True
    report.seconds = time.perf_counter() - begin
    console.print(_table(report), highlight=False)
    console.print(
        f'{report.cases:,} messages in {report.seconds:.0f} s from seed {arguments.seed}, '
        f"{'as ROS messages' if messages else 'without ROS'}; the process grew by "
        f'{report.growth / 1e6:.0f} MB meanwhile', highlight=False)
    if arguments.json:
        arguments.json.write_text(json.dumps({
            'seed': arguments.seed, 'cases': report.cases, 'messages': bool(messages),
            'python': platform.python_version(), **asdict(report),
            'limits': {'seconds': SLOWEST, 'bytes': MOST_MEMORY}},
            indent=2, default=repr) + '\n')
    faults = report.faults()
    for fault in faults:
        print(f'shadowtutor: more than {SLOWEST * 1e3:.0f} ms of CPU time, or too much memory: '
              f'{fault}', file=sys.stderr)
    if interrupted:
        raise KeyboardInterrupt
    return int(bool(faults) and not arguments.report_only)


def _messages() -> ModuleType | None:
    """Return the module that makes ROS messages, where ROS is there."""
    try:
        from shadowtutor_ros.nodes import messages
    except ImportError:
        return None
    return messages


def _table(report: 'Report') -> Table:  # noqa: F821
    table = Table(title='What came of the messages', box=SIMPLE)
    table.add_column('to the')
    table.add_column('what came of it')
    table.add_column('messages', justify='right')
    for side, counts in report.outcomes.items():
        for outcome, count in sorted(counts.items(), key=lambda pair: (':' in pair[0], pair)):
            table.add_row(side, outcome, f'{count:,}')
        for what, extremes, unit, scale in (
                ('slowest, CPU time', report.slowest, 'ms', 1e3),
                ('slowest, by the clock', report.waiting, 'ms', 1e3),
                ('most memory', report.memory, 'MB', 1e-6)):
            if side in extremes:
                one = extremes[side]
                table.add_row(
                    side, f'{what}: {one.outcome} ({_name(one.case)})',
                    f'{one.value * scale:.1f} {unit}')
        table.add_section()
    return table


def _name(case: object) -> str:
    return getattr(case, 'template', None) or case.image
