"""Put results of evaluations side by side: tables, and plots of accuracy against bytes."""

import argparse
import json
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from shadowtutor_ros.commands import CommandError
from shadowtutor_ros.evaluation.plots import write_plots
from shadowtutor_ros.evaluation.results import load_runs, save_runs
from shadowtutor_ros.evaluation.tables import (
    baseline_table, group, kbit_per_s, paper_tables, Series, summary_table)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the subcommand."""
    parser.add_argument(
        'folders', nargs='+', type=Path, metavar='FOLDER', help='that evaluate has written; a '
        'configuration without a --label has the name of its folder')
    parser.add_argument(
        '--methods', default='', metavar='METHODS', help='leave out all others, such as '
        'wild,partial-8 (default: all)')
    parser.add_argument(
        '--rate', type=float, default=0, help='frames a second that kbit/s are told for; 0: those '
        'of the videos')
    parser.add_argument(
        '--baseline', type=Path, default=argparse.SUPPRESS, metavar='JSON', help='figures of '
        'another implementation to compare with: {video: {p8: {miou, miou_present, key_ratio}}}')
    parser.add_argument('--out', type=Path, default=Path('report'), help='folder to write')


def run(arguments: argparse.Namespace) -> int:
    """Write the report; returns the exit status."""
    if arguments.rate < 0:
        raise CommandError(f'--rate is {arguments.rate}: give frames a second, or 0')
    runs = merge(arguments.folders)
    if arguments.methods:
        wanted = arguments.methods.split(',')
        names = dict.fromkeys(map(_method, runs))
        unknown = [name for name in wanted if name not in names]
        if unknown:
            raise CommandError(
                f"--methods '{unknown[0]}' is not among the results: choose from "
                f"{', '.join(names)}")
        runs = [run for run in runs if _method(run) in wanted]
    baseline = _load_baseline(arguments.baseline) if 'baseline' in arguments else None
    write_report(runs, arguments.out, Console(), arguments.rate, baseline)
    return 0


def merge(folders: list[Path]) -> list[dict[str, Any]]:
    """
    Collect the runs of several folders.

    :raises ResultsError: if one has no results.
    :raises CommandError: if two of their configurations have the same name, or there is no run.
    """
    merged, labels = [], {}
    for folder in folders:
        runs = load_runs(folder / 'results.json')
        if len(folders) > 1:
            runs = [{**run, 'label': run['label'] or folder.resolve().name} for run in runs]
        for label in {run['label'] for run in runs}:
            if labels.setdefault(label, folder) != folder:
                raise CommandError(
                    f"'{labels[label]}' and '{folder}' both have a configuration '{label}': give "
                    'them names with evaluate --label, or rename a folder')
        merged += runs
    if not merged:
        raise CommandError('there are no runs in the results')
    return merged


def write_report(
        runs: list[dict[str, Any]], folder: Path, console: Console, rate: float = 0.0,
        baseline: dict | None = None) -> None:
    """
    Write results.json and .csv, tables.md and plots.

    :param runs: as in results.json, at least one.
    :param folder: to write to.
    :param console: is shown the means, and what was written.
    :param rate: frames a second that kbit/s are told for; 0: those of the videos.
    :param baseline: of :func:`baseline_table`, to compare with.
    """
    folder.mkdir(parents=True, exist_ok=True)
    save_runs(runs, folder)
    series = group(runs)
    parts = [paper_tables(runs), summary_table('All, means over the videos', series, rate)]
    if baseline is not None:
        parts.append(baseline_table(runs, baseline))
    (folder / 'tables.md').write_text('\n'.join(parts))
    plots = write_plots(runs, folder, rate)
    console.print(_means(series, rate))
    console.print(
        f'wrote {folder}/: tables.md, results.json, results.csv, '
        f"{', '.join(path.name for path in plots)}", markup=False, highlight=False, soft_wrap=True)


def _means(series: list[Series], rate: float) -> Table:
    """Make a table that fits a terminal; tables.md says more."""
    table = Table(title='means over the videos', box=SIMPLE)
    table.add_column(no_wrap=True)
    for name in ('videos', 'mIoU', 'present', 'key frames', 'bytes/frame', 'kbit/s'):
        table.add_column(name, justify='right')
    for one in series:
        table.add_row(
            one.name, str(len(one.runs)),
            *(f'{one.mean(field):.1%}' for field in ('miou', 'miou_present', 'key_frame_ratio')),
            f"{one.mean('bytes_per_frame'):,.0f}", f'{kbit_per_s(one, rate):,.0f}')
    return table


def _method(run: dict[str, Any]) -> str:
    delay = run['update_delay']
    return run['method'] if delay is None else f"{run['method']}-{delay}"


def _load_baseline(path: Path) -> dict:
    try:
        baseline = json.loads(path.read_text())
    except ValueError as error:
        raise CommandError(f"baseline '{path}' is not JSON: {error}") from None
    fields = 'miou', 'miou_present', 'key_ratio'
    try:
        return {video: {method: {field: float(figures[field]) for field in fields}
                        for method, figures in methods.items()}
                for video, methods in baseline.items()}
    except (AttributeError, KeyError, TypeError, ValueError):
        raise CommandError(
            f"baseline '{path}' is not of the form {{video: {{p8: {{{', '.join(fields)}}}}}}}"
        ) from None
