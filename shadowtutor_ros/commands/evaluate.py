"""
Measure accuracy, throughput and traffic on videos, as the paper does, on a virtual clock.

The same client and server that the nodes drive run on the videos' frames; what an inference, a
training step, the teacher and the network take comes from a profile.
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from shadowtutor_ros.algorithms.client import ClientSettings, LATE_UPDATE
from shadowtutor_ros.commands import CommandError
from shadowtutor_ros.evaluation.label_cache import default_folder, label_video
from shadowtutor_ros.evaluation.profile import load_profile
from shadowtutor_ros.evaluation.results import Results
from shadowtutor_ros.evaluation.simulate import Method, METHODS, Simulation
from shadowtutor_ros.evaluation.videos import open_source, Source
from shadowtutor_ros.models.student import Student
from shadowtutor_ros.models.teachers import load_teacher
from shadowtutor_ros.models.teachers.base import TeacherPrediction


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
    parser.add_argument('--late-update', choices=LATE_UPDATE, default='wait', help='see the node')
    parser.add_argument('--width', type=int, default=640, help='frames are reduced to this width')
    parser.add_argument('--frames', type=int, default=0, help='of each video; 0: all')
    parser.add_argument('--fps', type=float, default=0, help='resample to this rate; 0: as it is')
    parser.add_argument('--profile', default='paper', help='paper, or a JSON file')
    parser.add_argument('--bandwidth', type=float, default=0, help='Mbit/s each way; 0: profile')
    parser.add_argument(
        '--paper-settings', action='store_true', help="the first implementation's: learning rate "
        '0.01, threshold 0.8, raw key frames, fp32 weights')
    parser.add_argument('--resume', action='store_true', help='skip runs that --out has already')
    parser.add_argument('--out', type=Path, default=Path('evaluation'), help='folder to write')


def run(arguments: argparse.Namespace) -> int:
    """Evaluate, and write the results after every run; returns the exit status."""
    methods = _methods(arguments)
    student = Student.load(arguments.student)
    profile = load_profile(arguments.profile)
    if arguments.bandwidth:
        bandwidth = arguments.bandwidth * 1e6
        profile = replace(profile, link=replace(
            profile.link, bandwidth_up=bandwidth, bandwidth_down=bandwidth))
    # All are opened before anything is run, so that what is wrong is said at once.
    sources = {video: _open(video, arguments) for video in arguments.videos}
    arguments.out.mkdir(parents=True, exist_ok=True)
    console = Console()
    results = Results(arguments.out, arguments.resume)
    try:
        with Progress(
                TextColumn('{task.description}'), BarColumn(20),
                TextColumn('{task.completed}/{task.total}'), TimeRemainingColumn(),
                console=console) as progress:
            for video, source in sources.items():
                todo = [method for method in methods if not results.has(source.name, method)]
                if not todo:
                    continue
                labels = _label(video, source, arguments, progress)
                for method in todo:
                    task = progress.add_task(
                        f'{source.name} {method.label}', total=len(labels))
                    # A raw key frame is the frame itself, and so is its label.
                    teacher = None if method.image_format == 'raw' else load_teacher(
                        arguments.teacher)
                    simulation = Simulation(method, student, profile, teacher)
                    measured = simulation.run(
                        _frames(source, arguments), labels,
                        lambda index, mask: progress.advance(task))
                    summary = results.add(source.name, method, measured)
                    progress.remove_task(task)
                    console.print(
                        f"{source.name} {method.label}: mIoU {summary['miou']:.3f}, key frames "
                        f"{summary['key_frame_ratio']:.1%}", highlight=False)
    except KeyboardInterrupt:
        console.print(f'interrupted: {len(results.runs)} runs are written, --resume goes on')
        return 130
    console.print(f'wrote {arguments.out}/tables.md, results.json, results.csv', highlight=False)
    return 0


def _methods(arguments: argparse.Namespace) -> list[Method]:
    client = ClientSettings(late_update=arguments.late_update)
    if arguments.late_update == 'wait':
        # The paper's client waits without end; nothing is lost unless the profile says so.
        client.update_timeout = 3600.0
    delays = [int(delay) for delay in arguments.update_delay.split(',')] if (
        arguments.update_delay) else [None]
    coding = {'image_format': 'raw'} if arguments.paper_settings else {}
    methods = []
    for name in arguments.methods.split(','):
        if name not in METHODS:
            raise CommandError(f"method '{name}' is unknown: choose from {', '.join(METHODS)}")
        if name in ('wild', 'naive'):
            methods.append(Method(name, **coding))
        else:
            methods += [Method(name, delay, client, **coding) for delay in delays]
    return methods


def _open(video: str, arguments: argparse.Namespace) -> Source:
    source = open_source(video)
    height, width = next(iter(source)).shape[:2]
    # A multiple of 8, as in the first implementation's figures.
    size = arguments.width, 8 * round(height * arguments.width / width / 8)
    return open_source(video, size)


def _frames(source: Source, arguments: argparse.Namespace) -> Iterator[np.ndarray]:
    """Read a video's frames, at the rate and up to the number that were asked for."""
    rate, due, count = arguments.fps or source.rate, 0.0, 0
    for index, frame in enumerate(source):
        if index / source.rate < due - 1e-9:
            continue
        due += 1 / rate
        yield frame
        count += 1
        if count == arguments.frames:
            return


def _label(
        video: str, source: Source, arguments: argparse.Namespace, progress: Progress
) -> list[TeacherPrediction]:
    task = progress.add_task(f'{source.name} teacher', total=arguments.frames or source.count)
    labels = label_video(
        _frames(source, arguments), lambda: load_teacher(arguments.teacher), video,
        (arguments.teacher,), f'{arguments.width} {arguments.frames} {arguments.fps}',
        default_folder(), lambda count: progress.update(task, completed=count))
    progress.remove_task(task)
    return labels
