"""
Measure accuracy, throughput and traffic on videos, as the paper does, on a virtual clock.

The same client and server that the nodes drive run on the videos' frames; what an inference, a
training step, the teacher and the network take comes from a profile.
"""

import argparse
from dataclasses import asdict, replace
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from shadowtutor_ros.algorithms.client import LATE_UPDATE
from shadowtutor_ros.commands import CommandError
from shadowtutor_ros.evaluation.evaluator import Advance, Clip, evaluate, Finished, Job
from shadowtutor_ros.evaluation.label_cache import default_folder
from shadowtutor_ros.evaluation.parallel import run_tasks
from shadowtutor_ros.evaluation.profile import load_profile
from shadowtutor_ros.evaluation.results import identify, Results
from shadowtutor_ros.evaluation.settings import (
    default_settings, make_method, PAPER_SETTINGS, parse_setting)
from shadowtutor_ros.evaluation.simulate import Method, METHODS
from shadowtutor_ros.models.student import Student

#: Seconds that a client which waits for late updates waits at most: the paper's has no limit, and
#: nothing is lost unless the profile says so.
_PATIENCE = 3600.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the subcommand."""
    parser.add_argument('videos', nargs='+', metavar='VIDEO', help="video files, or 'scene'")
    parser.add_argument('--teacher', required=True, help='as the parameter of the teacher node')
    parser.add_argument('--student', default='', help='weights; those of the package if empty')
    parser.add_argument(
        '--methods', default='wild,partial', help=f"of {','.join(METHODS)}, separated by commas")
    parser.add_argument(
        '--update-delay', default='', help='frames after which an update takes effect, several '
        'separated by commas; empty: as the network of the profile has it')
    parser.add_argument(
        '--late-update', choices=LATE_UPDATE, default=argparse.SUPPRESS,
        help='see the node (default: wait)')
    parser.add_argument('--width', type=int, default=640, help='frames are brought to this width')
    parser.add_argument('--frames', type=int, default=0, help='of each video; 0: all')
    parser.add_argument('--fps', type=float, default=0, help='resample to this rate; 0: as it is')
    parser.add_argument('--profile', default='paper', help='paper, or a JSON file')
    parser.add_argument('--bandwidth', type=float, default=0, help='Mbit/s each way; 0: profile')
    parser.add_argument(
        '--paper-settings', action='store_true', help="the first implementation's: learning rate "
        '0.01, threshold 0.8, raw key frames, fp32 weights, …; --set changes them one by one')
    parser.add_argument(
        '--set', action='append', default=[], metavar='NAME=VALUE', help='a setting, by the name '
        "of the node's parameter: min_stride=4, learning_rate=0.003, key_frame.quality=70, …; "
        'may be given several times')
    parser.add_argument(
        '--label', default='', help='name of this configuration, for the tables')
    parser.add_argument('--jobs', type=int, default=1, help='videos at a time, in processes')
    parser.add_argument(
        '--threads', type=int, default=1, help='that PyTorch computes with in each process; 0: '
        'its own choice. Another number gives other rounding, which grows over a run')
    parser.add_argument('--resume', action='store_true', help='skip runs that --out has already')
    parser.add_argument('--out', type=Path, default=Path('evaluation'), help='folder to write')


def run(arguments: argparse.Namespace) -> int:
    """Evaluate, and write the results after every run; returns the exit status."""
    if arguments.jobs < 1 or arguments.threads < 0:
        raise CommandError('--jobs is 1 or above, and --threads 0 or above')
    settings = _settings(arguments)
    methods = _methods(arguments, settings)
    Student.load(arguments.student).tensors(settings['scope'])
    profile = load_profile(arguments.profile)
    if arguments.bandwidth:
        bandwidth = arguments.bandwidth * 1e6
        profile = replace(profile, link=replace(
            profile.link, bandwidth_up=bandwidth, bandwidth_down=bandwidth))
    arguments.out.mkdir(parents=True, exist_ok=True)
    results = Results(arguments.out, arguments.resume)

    conditions = {
        'teacher': arguments.teacher, 'student': arguments.student, 'width': arguments.width,
        'frames': arguments.frames, 'fps': arguments.fps, 'profile': asdict(profile)}
    conditions['profile'].pop('derivation')

    def identity(video: str, method: Method) -> dict:
        return identify(video, arguments.label, method, settings, conditions)

    jobs, frames = [], 0
    for video in arguments.videos:
        # All are opened before anything is run, so that what is wrong is said at once.
        clip = Clip(video, arguments.width, arguments.frames, arguments.fps)
        source = clip.open()
        if source.count is None:
            raise CommandError(f"'{video}' has no end: give the number of --frames")
        todo = tuple(method for method in methods
                     if not results.has(identity(source.name, method)))
        if todo:
            frames += source.count * len(todo)
            jobs.append(Job(clip, source.name, todo, profile, arguments.teacher,
                            arguments.student, default_folder()))
    console = Console()
    try:
        with Progress(
                TextColumn('{task.description}'), BarColumn(20),
                TextColumn('{task.completed}/{task.total} frames'), TimeRemainingColumn(),
                console=console, speed_estimate_period=300) as progress:
            tasks: dict[str, TaskID] = {}
            overall = progress.add_task('all runs', total=frames)

            def on_message(message: Advance | Finished) -> None:
                if isinstance(message, Finished):
                    name = message.job.name
                    summary = results.add(identity(name, message.method), message.run)
                    console.print(
                        f"{name} {message.method.label}: mIoU {summary['miou']:.3f}, key frames "
                        f"{summary['key_frame_ratio']:.1%}", highlight=False)
                    return
                if message.what not in tasks:
                    tasks[message.what] = progress.add_task(message.what, total=message.total)
                progress.update(tasks[message.what], completed=message.done)
                if message.done == message.total:
                    progress.remove_task(tasks.pop(message.what))
                if not message.what.endswith(' teacher'):
                    progress.advance(overall)

            run_tasks(evaluate, jobs, on_message, arguments.jobs, arguments.threads)
    except KeyboardInterrupt:
        console.print(f'interrupted: {len(results.runs)} runs are written, --resume goes on')
        return 130
    console.print(f'wrote {arguments.out}/tables.md, results.json, results.csv', highlight=False)
    return 0


def _settings(arguments: argparse.Namespace) -> dict:
    """Collect all settings: defaults, the paper's, then what was given."""
    given = dict(map(parse_setting, arguments.set))
    if 'late_update' in arguments:
        given['late_update'] = arguments.late_update
    settings = {**default_settings(), 'late_update': 'wait'}
    if arguments.paper_settings:
        settings |= PAPER_SETTINGS
    settings |= given
    if settings['late_update'] == 'wait' and 'update_timeout' not in given:
        settings['update_timeout'] = _PATIENCE
    return settings


def _methods(arguments: argparse.Namespace, settings: dict) -> list[Method]:
    delays = [int(delay) for delay in arguments.update_delay.split(',')] if (
        arguments.update_delay) else [None]
    methods = []
    for name in arguments.methods.split(','):
        if name not in METHODS:
            raise CommandError(f"method '{name}' is unknown: choose from {', '.join(METHODS)}")
        methods += [make_method(name, delay, settings)
                    for delay in ([None] if name in ('wild', 'naive') else delays)]
    return methods
