"""
Measure accuracy, throughput and traffic on videos, as the paper does, on a virtual clock.

The same client and server that the nodes drive run on the videos' frames; what an inference, a
training step, the teacher and the network take comes from a profile.
"""

import argparse
from collections.abc import Callable
from dataclasses import replace
import itertools
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeRemainingColumn

from shadowtutor_ros.algorithms.client import LATE_UPDATE
from shadowtutor_ros.algorithms.presets import PRESETS
from shadowtutor_ros.classes import ClassTable
from shadowtutor_ros.commands import CommandError
from shadowtutor_ros.commands.class_option import CLASSES_HELP, classes_of
from shadowtutor_ros.commands.progress import WorkProgress, WorkStatus
from shadowtutor_ros.commands.report import write_report
from shadowtutor_ros.evaluation.evaluator import (
    Advance, Finished, label, Labelling, Playlist, simulate, Trial)
from shadowtutor_ros.evaluation.label_cache import default_folder
from shadowtutor_ros.evaluation.measure import measure_profile
from shadowtutor_ros.evaluation.parallel import run_tasks
from shadowtutor_ros.evaluation.profile import Link, load_profile, Profile
from shadowtutor_ros.evaluation.ray_tasks import run_ray_tasks
from shadowtutor_ros.evaluation.results import identify, Results, summarize
from shadowtutor_ros.evaluation.settings import (
    default_settings, make_method, PAPER_SETTINGS, parse_setting)
from shadowtutor_ros.evaluation.simulate import Method, METHODS
from shadowtutor_ros.models.student.base import Student
from shadowtutor_ros.models.student.inference import choose_device
from shadowtutor_ros.sources.videos import Clip, Source

_MEASURED = 'measured'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the subcommand."""
    parser.add_argument(
        'videos', nargs='+', metavar='VIDEO', help='video files, folders of images, bags (with '
        "':/topic' behind them where several of their topics have images), or 'scene'")
    parser.add_argument('--teacher', required=True, help='as the parameter of the teacher node')
    parser.add_argument('--teacher-weights', default='DEFAULT', help='likewise')
    parser.add_argument('--student', default='', help='weights; those of the package if empty')
    parser.add_argument('--classes', default='', help=CLASSES_HELP)
    parser.add_argument(
        '--scored-classes', default='', help='classes that accuracy is measured with, by the '
        'names of those; as --classes, which it is where it is left out')
    parser.add_argument('--device', default='cpu', help="'cpu', 'cuda', or 'auto'")
    parser.add_argument(
        '--methods', default='wild,partial', help=f"of {','.join(METHODS)}, separated by commas")
    parser.add_argument(
        '--update-delay', default='network', help='frames after which an update takes effect, or '
        "'network': when it arrives over that of the profile; several separated by commas, such "
        'as network,1,8')
    parser.add_argument(
        '--late-update', choices=LATE_UPDATE, default=argparse.SUPPRESS,
        help="see the node (default: wait; with --real-time the node's)")
    parser.add_argument('--width', type=int, default=640, help='frames are brought to this width')
    parser.add_argument('--frames', type=int, default=0, help='of each video; 0: all')
    parser.add_argument('--fps', type=float, default=0, help='resample to this rate; 0: as it is')
    parser.add_argument(
        '--playlist', type=float, default=argparse.SUPPRESS, metavar='MINUTES', help='play the '
        'videos one after the other as one of so many minutes, each round in another order')
    parser.add_argument(
        '--camera-jpeg', type=int, default=0, metavar='QUALITY', help='the student sees JPEG '
        'images of this quality, as of a camera that compresses; labels are of the frames '
        'themselves; 0: it sees them too')

    network = parser.add_argument_group('virtual clock and network')
    network.add_argument(
        '--real-time', action='store_true', help="frames come at the video's rate, and are "
        'dropped where the robot is slower; left out, each comes when the last one is done, as in '
        'the paper')
    network.add_argument(
        '--profile', default='paper', help="'paper', 'wifi' (5 GHz Wi-Fi, a teacher with a GPU), "
        "a JSON file, or 'measured': on this machine")
    network.add_argument(
        '--save-profile', type=Path, default=argparse.SUPPRESS, metavar='JSON',
        help='write the profile in use')
    for name, text in (
            ('bandwidth', 'Mbit/s each way; several separated by commas make a sweep'),
            ('bandwidth-up', 'Mbit/s from the robot to the workstation'),
            ('bandwidth-down', 'Mbit/s back'),
            ('latency', 'seconds a message takes one way, besides its bytes'),
            ('loss', 'share of whole messages that are lost, 0 to 1')):
        network.add_argument(
            f'--{name}', type=numbers if name == 'bandwidth' else float,
            default=argparse.SUPPRESS, help=f"{text} (default: the profile's)")

    settings = parser.add_argument_group('settings of student and teacher')
    start = settings.add_mutually_exclusive_group()
    start.add_argument(
        '--preset', choices=PRESETS, default=argparse.SUPPRESS, help='as in config/presets '
        '(default: the defaults)')
    start.add_argument(
        '--paper-settings', action='store_true', help="the first implementation's: learning rate "
        '0.01, threshold 0.8, raw key frames, fp32 weights, …; --set changes them one by one')
    settings.add_argument(
        '--set', action='append', default=[], metavar='NAME=VALUE', help='a setting, by the name '
        "of the node's parameter: min_stride=4, learning_rate=0.003, key_frame.quality=70, …; "
        'may be given several times')
    settings.add_argument(
        '--label', default='', help='name of this configuration, for the tables')

    work = parser.add_argument_group('work and results')
    work.add_argument('--jobs', type=int, default=1, help='runs at a time, in processes')
    work.add_argument(
        '--ray', action='store_true', help='runs are done on the Ray cluster of the environment '
        'variable RAY_ADDRESS, else on one that is made of this machine; its CPUs say how many at '
        'a time. Videos, the cache of labels and folders to write are at the same places on all '
        'its machines')
    work.add_argument(
        '--threads', type=int, default=1, help='that PyTorch computes with in each process; 0: '
        'its own choice. Another number gives other rounding, which grows over a run')
    work.add_argument('--resume', action='store_true', help='skip runs that --out has already')
    work.add_argument(
        '--save-predictions', type=Path, default=argparse.SUPPRESS, metavar='DIR',
        help='write the masks of all runs as PNG, DIR/VIDEO/METHOD/FRAME.png')
    work.add_argument(
        '--save-labels', type=Path, default=argparse.SUPPRESS, metavar='DIR',
        help='write frames and labels as PNG, DIR/VIDEO/images/FRAME.png and …/labels/FRAME.png')
    work.add_argument('--out', type=Path, default=Path('evaluation'), help='folder to write')


def numbers(text: str) -> list[float]:
    """Read numbers that are separated by commas."""
    return list(map(float, text.split(',')))


def run(arguments: argparse.Namespace) -> int:
    """Evaluate, and write the results after every run; returns the exit status."""
    _check(arguments)
    console = Console()
    # Without --profile's own link a machine that is measured has the paper's.
    profile = load_profile('paper' if arguments.profile == _MEASURED else arguments.profile)
    links = _links(arguments, profile.link)
    settings = _settings(arguments, lossy=links[0].loss > 0)
    methods = _methods(arguments, settings)
    student = Student.load(arguments.student)
    student.tensors(settings['scope'])
    arguments.device = choose_device(arguments.device)
    # All are opened before anything is run, so that what is wrong is said at once.
    classes = classes_of(arguments.classes) or student.classes
    labellings, sources = _open(arguments, classes)
    tried = labellings
    if 'playlist' in arguments:
        tried = [_playlist(arguments.playlist, labellings, sources, settings['seed'])]
    if arguments.profile == _MEASURED:
        profile = _measure(student, labellings[0], methods, links[0], console)
    if 'save_profile' in arguments:
        replace(profile, link=links[0]).save(arguments.save_profile)
    trials = _trials(
        arguments, tried, methods, [replace(profile, link=link) for link in links])
    weights = student.weights_checksum()

    def identity(trial: Trial) -> dict[str, Any]:
        return identify(trial, arguments.label, settings, weights, arguments.threads)

    arguments.out.mkdir(parents=True, exist_ok=True)
    planned = list(map(identity, trials))
    results = Results(arguments.out, arguments.resume, planned)
    trials = [trial for trial, one in zip(trials, planned) if not results.has(one)]
    needed = {one.name for trial in trials for one in trial.labelling.parts}
    labellings = [one for one in labellings if one.name in needed or one.save]
    if trials:
        # So that a wrong name is said at once, and what has to be downloaded is so once.
        labellings[0].load_teacher()

    def on_finished(finished: Finished) -> None:
        rate = sources[finished.trial.labelling.name].rate
        summary = summarize(identity(finished.trial), rate, finished.run)
        results.add(summary)
        miou = '–' if summary['miou'] is None else f"{summary['miou']:.3f}"
        console.print(
            f"{finished.trial.title}: mIoU {miou}, key frames {summary['key_frame_ratio']:.1%}",
            highlight=False)

    try:
        for title, work, tasks in (('labels', label, labellings), ('runs', simulate, trials)):
            _run_with_progress(title, work, tasks, sources, on_finished, arguments, console)
    except KeyboardInterrupt:
        console.print(
            f'interrupted: {len(results.runs)} runs are written, --resume goes on', style='yellow')
        if results.runs:
            write_report(results.runs, arguments.out, console)
        return 130
    write_report(results.runs, arguments.out, console)
    return 0


def _check(arguments: argparse.Namespace) -> None:
    for name, least in (('jobs', 1), ('threads', 0), ('frames', 0), ('fps', 0), ('width', 1)):
        if not getattr(arguments, name) >= least:
            raise CommandError(f'--{name} is {getattr(arguments, name)}: give {least} or above')
    if not getattr(arguments, 'playlist', 1.0) > 0:
        raise CommandError(f'--playlist is {arguments.playlist}: give minutes, above 0')
    if arguments.ray and arguments.jobs > 1:
        raise CommandError(
            f'--jobs is {arguments.jobs}: leave it out, since with --ray the CPUs of the cluster '
            'say how many runs are done at a time')
    if not 0 <= arguments.camera_jpeg <= 100:
        raise CommandError(f'--camera-jpeg is {arguments.camera_jpeg}: give 1 to 100, or 0')


def _links(arguments: argparse.Namespace, link: Link) -> list[Link]:
    """Change the profile's link as it was asked for; one for each bandwidth of a sweep."""
    given = vars(arguments)
    link = replace(link, **{name: given[name] for name in ('latency', 'loss') if name in given})
    links = []
    for both in given.get('bandwidth', [None]):
        ways = {name: given.get(name, both) for name in ('bandwidth_up', 'bandwidth_down')}
        links.append(replace(link, **{
            name: 1e6 * value for name, value in ways.items() if value is not None}))
    return links


def _settings(arguments: argparse.Namespace, lossy: bool) -> dict[str, Any]:
    """Collect all settings: defaults, the paper's or a preset's, then what was given."""
    given = dict(map(parse_setting, arguments.set))
    if 'late_update' in arguments:
        given['late_update'] = arguments.late_update
    settings = default_settings()
    if not arguments.real_time:
        settings['late_update'] = 'wait'
    if arguments.paper_settings:
        settings |= PAPER_SETTINGS
    if 'preset' in arguments:
        settings |= PRESETS[arguments.preset]
    settings |= given
    if settings['late_update'] == 'wait' and 'update_timeout' not in given:
        # The paper's client has no time-out, which is of use where no message is lost.
        settings['update_timeout'] = (
            default_settings() if lossy else PAPER_SETTINGS)['update_timeout']
    return settings


def _methods(arguments: argparse.Namespace, settings: dict[str, Any]) -> list[Method]:
    delays = []
    for text in arguments.update_delay.split(','):
        if text != 'network' and not (text.isdecimal() and int(text)):
            raise CommandError(
                f"--update-delay '{arguments.update_delay}': give frames, 1 or above, or "
                "'network', separated by commas")
        delays.append(None if text == 'network' else int(text))
    methods = []
    for name in dict.fromkeys(arguments.methods.split(',')):
        if name not in METHODS:
            raise CommandError(f"method '{name}' is unknown: choose from {', '.join(METHODS)}")
        methods += [make_method(name, delay, settings)
                    for delay in ([None] if name in ('wild', 'naive') else dict.fromkeys(delays))]
    return methods


def _open(
        arguments: argparse.Namespace, classes: ClassTable
) -> tuple[list[Labelling], dict[str, Source]]:
    labellings, sources, folders = [], {}, {}
    for video in dict.fromkeys(arguments.videos):
        clip = Clip(
            video, arguments.width, arguments.frames, arguments.fps, arguments.camera_jpeg)
        source = clip.open()
        # Two of the same name in different folders go by their paths.
        name = next(one for one in (source.name, video, str(Path(video).absolute()))
                    if one not in sources)
        sources[name] = source
        save = (arguments.save_labels / _folder_name(name, folders)
                if 'save_labels' in arguments else None)
        labellings.append(Labelling(
            name, clip, arguments.teacher, arguments.teacher_weights, arguments.device,
            default_folder(), classes, save))
    return labellings, sources


def _playlist(
        minutes: float, labellings: list[Labelling], sources: dict[str, Source], seed: int
) -> Playlist:
    """
    Let videos be played one after the other, each round in another order.

    :param minutes: after which no further one is begun.
    :param sources: of the videos, by name; gets the playlist's.
    :param seed: of the orders.
    """
    first = labellings[0]
    rate, random = sources[first.name].rate, np.random.default_rng(seed)
    rounds = (labellings[index] for _ in itertools.count()
              for index in random.permutation(len(labellings)))
    items: list[Labelling] = []
    count = 0
    while count < 60 * minutes * rate:
        items.append(next(rounds))
        length = sources[items[-1].name].count
        if length is None:
            raise CommandError(
                f"--playlist: '{items[-1].name}' does not say how long it is: give --frames")
        count += length
    name = f'playlist of {len(labellings)}, {60 * minutes:.0f} s'
    sources[name] = Source(name, rate, count, lambda: iter(()))
    return Playlist(
        name, first.clip, first.teacher, first.teacher_weights, first.device, first.cache,
        first.classes, items=tuple(items), played_rate=rate)


def _measure(
        student: Student, labelling: Labelling, methods: list[Method], link: Link,
        console: Console) -> Profile:
    """Measure the profile on the first frame, with as many threads as PyTorch chooses."""
    method = next((method for method in methods if method.distils), methods[0])
    with WorkStatus(console, 'measuring this machine'):
        profile = measure_profile(
            student, labelling.load_teacher(), next(iter(labelling.clip.open())), method, link,
            labelling.device)
    console.print(
        f'measured: t_si {1e3 * profile.t_si:.1f} ms, t_sd {1e3 * profile.t_sd:.1f} ms (full '
        f'{1e3 * profile.t_sd_full:.1f} ms), t_ti {1e3 * profile.t_ti:.1f} ms', highlight=False)
    return profile


def _trials(
        arguments: argparse.Namespace, labellings: list[Labelling], methods: list[Method],
        profiles: list[Profile]) -> list[Trial]:
    trials = []
    scored = classes_of(arguments.scored_classes)
    videos: dict[str, str] = {}
    for labelling in labellings:
        names: dict[str, str] = {}
        for method in methods:
            # Where the network has no say one of them is enough.
            for profile in profiles if method.on_network else profiles[:1]:
                trial = Trial(
                    labelling, arguments.student, method, profile, scored,
                    real_time=arguments.real_time)
                if 'save_predictions' in arguments:
                    name = trial.title.removeprefix(f'{labelling.name} ')
                    trial = replace(trial, save=(
                        arguments.save_predictions / _folder_name(labelling.name, videos)
                        / _folder_name(f'{arguments.label} {name}'.strip(), names)))
                trials.append(trial)
    return trials


def _folder_name(name: str, taken: dict[str, str]) -> str:
    """Return the name's folder in ``taken``, where a new one is added that differs from all."""
    if name not in taken:
        plain = ''.join(
            letter if letter.isalnum() or letter in '-_.' else '_' for letter in name)
        folders = {folder.casefold() for folder in taken.values()}
        numbered = itertools.chain([plain], (f'{plain}-{number}' for number in itertools.count(2)))
        taken[name] = next(one for one in numbered if one.casefold() not in folders)
    return taken[name]


def _run_with_progress(
        title: str, work: Callable, tasks: list, sources: dict[str, Source],
        on_finished: Callable[[Finished], None], arguments: argparse.Namespace,
        console: Console) -> None:
    """Do tasks, and show how far each and all of them are, with the time left."""
    if not tasks:
        return
    counts = {task.title: sources[getattr(task, 'labelling', task).name].count for task in tasks}
    with WorkProgress(
            TextColumn('{task.description}'), BarColumn(20),
            TextColumn('{task.completed}/{task.fields[of]} frames'), TimeRemainingColumn(),
            console=console, speed_estimate_period=300, transient=True) as progress:
        bars: dict[str, TaskID] = {}
        done = dict.fromkeys(counts, 0)
        # A video may not say how many it has.
        total = 0 if None in counts.values() else sum(counts.values())
        overall = progress.add_task(f'all {len(tasks)} {title}', total=total, of=total or '?')

        def on_message(message: Advance | Finished) -> None:
            if isinstance(message, Finished):
                progress.remove_task(bars.pop(message.trial.title))
                on_finished(message)
                return
            if message.title not in bars:
                count = counts[message.title]
                bars[message.title] = progress.add_task(
                    message.title, total=count or 0, of=count or '?')
            done[message.title] = message.done
            progress.update(bars[message.title], completed=message.done)
            progress.update(overall, completed=sum(done.values()))
            if work is label and counts[message.title] == message.done:
                progress.update(bars[message.title], visible=False)

        if arguments.ray:
            gpus = 1.0 if arguments.device.startswith('cuda') else 0.0
            run_ray_tasks(work, tasks, on_message, arguments.threads, gpus)
        else:
            run_tasks(work, tasks, on_message, arguments.jobs, arguments.threads)
