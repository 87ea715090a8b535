"""
Let many simulated robots live with one teacher for a long time, with random faults.

The robots are student nodes in this process, whose cameras play clips; the teacher is a process,
and key frames and updates cross DDS. What is wanted: 95 % of the masks before the next image is
due, memory that does not grow, and nothing lost but what the faults took. What the queueing model
of `plan` makes of the measured times is shown beside what was measured.
"""

import argparse
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.table import Column, Table

from shadowtutor_ros.commands import CommandError, needing_ros
from shadowtutor_ros.commands.progress import Speaker, WorkStatus
from shadowtutor_ros.commands.teacher_option import teacher_for, TEACHER_HELP
from shadowtutor_ros.evaluation.settings import parse_setting
from shadowtutor_ros.limits import MIN_SIDE
from shadowtutor_ros.reliability.account import Totals
from shadowtutor_ros.reliability.record import Record, SoakSettings, sums
from shadowtutor_ros.reliability.soak_tables import (
    COUNT_HEAD, count_rows, last_fault, MODEL_HEAD, model_inputs, model_rows, teacher_rows,
    TIME_HEAD, time_rows, write_report)

#: Exit status after Ctrl-C, as of other commands.
_INTERRUPTED = 130


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the subcommand."""
    parser.add_argument('--robots', type=int, default=10, metavar='N', help='how many')
    parser.add_argument('--minutes', type=float, default=10.0, metavar='M', help='for how long')
    parser.add_argument(
        '--video', nargs='+', default=['scene'], help='what the robots see, in turn: video files, '
        "folders of images, bags, 'scene'; up to a minute of each is played again and again")
    parser.add_argument('--teacher', help=TEACHER_HELP)
    parser.add_argument(
        '--teacher-weights', default='DEFAULT', help='as the parameter of the teacher node')
    parser.add_argument('--width', type=int, default=320, help='of the frames in pixels')
    parser.add_argument('--fps', type=float, default=5.0, help='frames a second of each robot')
    parser.add_argument(
        '--fault-every', type=float, default=10.0, metavar='S',
        help='seconds from one random fault to the next, each once before any comes again; 0: '
        'none')
    parser.add_argument('--seed', type=int, default=0, help='of the faults: which, when, to whom')
    parser.add_argument(
        '--set', action='append', default=[], metavar='NAME=VALUE', help='a parameter of students '
        'or teacher, as for `evaluate`: max_updates=8, update_timeout=30, …; may be given several '
        'times')
    parser.add_argument(
        '--out', type=Path, default=Path('soak_output'), help='folder for tables, plot and logs')


def run(arguments: argparse.Namespace) -> int:
    """Run robots and teacher; returns the exit status, which is 1 where something went wrong."""
    _check(arguments)
    with needing_ros():
        from shadowtutor_ros.reliability.soak import Soak

    settings = SoakSettings(
        arguments.robots, 60 * arguments.minutes, tuple(arguments.video),
        arguments.teacher or teacher_for(arguments.video), arguments.teacher_weights,
        arguments.width, arguments.fps, arguments.fault_every, arguments.seed,
        dict(map(parse_setting, arguments.set)))
    console, interrupted = Console(), False
    with ExitStack() as stack:
        with WorkStatus(console, 'starting') as status:
            soak = stack.enter_context(Soak(settings, arguments.out, status.update))
        view = _View(soak.record)
        try:
            with Live(console=console, get_renderable=view.table), Speaker(console, view.line):
                soak.run()
        except KeyboardInterrupt:
            interrupted = True
            console.print('interrupted: what was seen by now is written')
    report, files = write_report(soak.record, arguments.out)
    _print(report, console)
    for file in files:
        console.print(f'wrote {file}', highlight=False)
    return _INTERRUPTED if interrupted else int(bool(report['wrong']))


def _check(arguments: argparse.Namespace) -> None:
    for name, least in (('robots', 1), ('minutes', 0.01), ('width', 2 * MIN_SIDE), ('fps', 0.1)):
        if not getattr(arguments, name) >= least:
            raise CommandError(
                f'--{name} is {getattr(arguments, name)}: expected {least} at least')
    if arguments.fault_every and not arguments.fault_every >= 1:
        raise CommandError(
            f'--fault-every is {arguments.fault_every}: expected seconds, 1 at least, or 0 for '
            'no faults')


class _View:
    """
    How things stand, for people.

    :param record: that is looked at.
    """

    def __init__(self, record: Record):
        self._record = record

    def table(self) -> Group:
        """Return a table of the robots by now, and a line below it."""
        table = Table('robot', *(Column(head, justify='right') for head in (
            'masks in time', 'key frames', 'updates', 'refused', 'rejected', 'timed out')))
        samples = self._record.samples
        for name in self._record.accounts if samples else ():
            done = samples[-1].totals[name] - samples[0].totals[name]
            table.add_row(name, *(f'{value}' for value in (
                _share(done), done.key_frames, done.applied, sum(done.refused.values()),
                sum(done.rejected.values()), done.timed_out)))
        return Group(table, self.line())

    def line(self) -> str:
        """Say how things stand in one line; nothing before there is something to say."""
        record = self._record
        if not record.samples:
            return ''
        first, last = record.samples[0], record.samples[-1]
        done = sums(last.totals) - sums(first.totals)
        line = (
            f'{last.time - record.begin:.0f} of {record.settings.seconds:.0f} s: {_share(done)} '
            f'masks in time, {done.key_frames} key frames, {done.applied} updates, '
            f'{len(record.happenings)} faults')
        fault = last_fault(record.happenings)
        return f'{line}; {fault}' if fault else line


def _share(done: Totals) -> str:
    return f'{min(1.0, done.masks_in_time / done.frames):.1%}' if done.frames else '–'


def _print(report: dict, console: Console) -> None:
    for head, rows in ((COUNT_HEAD, count_rows(report)), (TIME_HEAD, time_rows(report))):
        table = Table(head[0], *(Column(name, justify='right') for name in head[1:]))
        for row in rows:
            table.add_row(*row)
        console.print(table)
    table = Table(title='the teacher; times: median (95 %)', show_header=False)
    for row in teacher_rows(report):
        table.add_row(*row)
    console.print(table)
    if report['model']:
        table = Table(*MODEL_HEAD, title='the queueing model of `shadowtutor plan --robots`')
        agrees = report['model']['agrees'].values()
        for row, good in zip(model_rows(report['model']), agrees):
            table.add_row(*row, style=None if good else 'red')
        console.print(table, model_inputs(report['model']), highlight=False)
    for line in report['wrong']:
        console.print(line, style='red', highlight=False, markup=False)
