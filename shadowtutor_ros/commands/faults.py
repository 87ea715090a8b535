"""
Put faults into the running system, and see that masks go on and that adaptation comes back.

A student and a teacher run as processes and talk over DDS; a camera plays the built-in scene. What
is wanted: 95 % of the undisturbed masks, an answer applied within two key frames, and no update
that costs more than any other. The faults of the link need Linux, as root.
"""

import argparse
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.table import Column, Table

from shadowtutor_ros.commands import CommandError, needing_ros
from shadowtutor_ros.commands.progress import Speaker


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the subcommand."""
    parser.add_argument(
        '--only', type=lambda text: text.split(','), default=[], metavar='NAME,…',
        help='try these faults alone (default: all); an unknown name lists them')
    parser.add_argument(
        '--out', type=Path, default=Path('faults_output'), help='folder for table and logs')


def run(arguments: argparse.Namespace) -> int:
    """Try the faults; returns the exit status, which is 1 where one failed."""
    with needing_ros():
        from shadowtutor_ros.reliability.faults import FAULTS
        from shadowtutor_ros.reliability.runner import try_faults
    from shadowtutor_ros.reliability.tables import as_json, as_markdown, HEAD, row

    names, results, console = arguments.only or list(FAULTS), [], Console()
    unknown = set(names) - set(FAULTS)
    if unknown:
        raise CommandError(
            f"unknown faults: {', '.join(sorted(unknown))}; there are {', '.join(FAULTS)}")
    arguments.out.mkdir(parents=True, exist_ok=True)
    now = ''

    def on_fault(fault) -> None:
        nonlocal now
        now = f'{len(results) + 1} of {len(set(names))}: {fault.text}'

    def view() -> Group:
        table = Table(Column(HEAD[0], no_wrap=True), *HEAD[1:])
        for result in results:
            table.add_row(result.name, *row(result), style='red' if result.failed else None)
        return Group(table, now)

    with Live(console=console, get_renderable=view), Speaker(console, lambda: now):
        for result in try_faults(names, arguments.out, on_fault):
            results.append(result)
            # Each at once, so that a run that is broken off leaves what is done.
            (arguments.out / 'faults.json').write_text(as_json(results))
            (arguments.out / 'faults.md').write_text(as_markdown(results))
        now = ''
    for result in results:
        for line in result.wrong:
            console.print(f'{result.name}: {line}', highlight=False, markup=False)
    for name in ('faults.md', 'faults.json'):
        console.print(f'wrote {arguments.out / name}', highlight=False)
    return int(any(result.failed for result in results))
