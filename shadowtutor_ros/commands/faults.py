"""
Put faults into the running system, and see that masks go on and that adaptation comes back.

A student and a teacher run as processes and talk over DDS; a camera plays the built-in scene. What
is wanted: 95 % of the undisturbed masks, and an answer applied within two key frames. The faults
of the link need Linux, as root.
"""

import argparse
from pathlib import Path

from rich.console import Console
from rich.table import Table

from shadowtutor_ros.commands import CommandError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the subcommand."""
    parser.add_argument(
        '--only', type=lambda text: text.split(','), default=[], metavar='NAME,…',
        help='try these faults alone (default: all); an unknown name lists them')
    parser.add_argument(
        '--out', type=Path, default=Path('faults_output'), help='folder for table and logs')


def run(arguments: argparse.Namespace) -> int:
    """Try the faults; returns the exit status, which is 1 where one failed."""
    try:
        from shadowtutor_ros.reliability.faults import FAULTS
        from shadowtutor_ros.reliability.runner import try_faults
    except ImportError as error:
        raise CommandError(
            f'ROS 2 or the messages of this package are missing ({error}): run make setup and '
            'use .venv/bin/shadowtutor, or source the workspace') from None
    from shadowtutor_ros.reliability.tables import as_json, as_markdown, HEAD, row

    names, results, console = arguments.only or list(FAULTS), [], Console()
    unknown = set(names) - set(FAULTS)
    if unknown:
        raise CommandError(
            f"unknown faults: {', '.join(sorted(unknown))}; there are {', '.join(FAULTS)}")
    arguments.out.mkdir(parents=True, exist_ok=True)
    with console.status('') as status:
        def on_fault(fault) -> None:
            status.update(f'{len(results) + 1} of {len(set(names))}: {fault.text}')

        for result in try_faults(names, arguments.out, on_fault):
            results.append(result)
            verdict = 'skipped' if result.skipped else 'failed' if result.failed else 'passed'
            console.print(f'{verdict}: {result.name}', highlight=False)
            # Each at once, so that a run that is broken off leaves what is done.
            (arguments.out / 'faults.json').write_text(as_json(results))
            (arguments.out / 'faults.md').write_text(as_markdown(results))
    table = Table(*HEAD)
    for result in results:
        table.add_row(*row(result), style='red' if result.failed else None)
    console.print(table)
    for result in results:
        for line in result.wrong:
            console.print(f'{result.name}: {line}', highlight=False, markup=False)
    for name in ('faults.md', 'faults.json'):
        console.print(f'wrote {arguments.out / name}', highlight=False)
    return int(any(result.failed for result in results))
