"""
Run the whole system over DDS on a video or on the built-in scene, and measure it.

Camera, student and teacher run as three processes. Afterwards every frame is labelled by the
teacher and segmented by a student that was never tutored, to compare.
"""

import argparse
from contextlib import nullcontext
import json
import os
from pathlib import Path
import secrets
import tempfile
import time

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from shadowtutor_ros.algorithms.client import Client, ClientSettings, LATE_UPDATE
from shadowtutor_ros.classes import ClassTable, is_file, load_classes, SHIPPED
from shadowtutor_ros.commands import CommandError, needing_ros
from shadowtutor_ros.commands.class_option import CLASSES_HELP, classes_of
from shadowtutor_ros.commands.dashboard import served
from shadowtutor_ros.commands.demo_report import OverlayVideo, plot_run, RunCurves
from shadowtutor_ros.commands.progress import WorkProgress, WorkStatus
from shadowtutor_ros.commands.teacher_option import teacher_for, TEACHER_HELP
from shadowtutor_ros.metrics import mean_iou
from shadowtutor_ros.models.student.base import Student
from shadowtutor_ros.models.student.inference import choose_device, InferenceEngine
from shadowtutor_ros.models.teachers import load_teacher, Teacher
from shadowtutor_ros.nodes.processes import keep_local, Nodes
from shadowtutor_ros.sources.videos import open_source, Source

#: Seconds for three processes to start and find each other on a slow machine; a teacher that
#: torchvision has to download first takes longer.
START_TIMEOUT = 600.0

#: Seconds: a computer that they all share may be slow; less than the camera's patience.
UPDATE_TIMEOUT = 25.0

#: Seconds without a new mask after which something must be wrong.
PATIENCE = 120.0

#: A teacher that takes longer than this for a frame, in seconds, is asked for a sample only.
QUICK_TEACHER = 0.4

_DEFAULT_FRAMES = 300


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the subcommand."""
    add_run_arguments(parser)
    parser.add_argument(
        '--record', type=Path, metavar='BAG', help='write images, masks, key frames, updates and '
        'status to a bag that is not there yet: a file where it ends in .mcap, else a folder')


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that say what is run."""
    parser.add_argument(
        '--video', default='scene', help="a video file, a folder of images, a bag (with ':/topic' "
        "behind it where several of its topics have images), or 'scene'")
    parser.add_argument('--teacher', help=TEACHER_HELP)
    parser.add_argument(
        '--student', default='', help='weights of the student (default: those of the package)')
    parser.add_argument('--classes', default='', help=CLASSES_HELP)
    parser.add_argument(
        '--frames', type=int, default=0, help=f'stop after this many; 0: {_DEFAULT_FRAMES} of the '
        'scene, all of a video')
    parser.add_argument(
        '--size', type=parse_size, default=(0, 0), metavar='WxH', help='of the frames, such as '
        "640x360 (default: the video's own)")
    parser.add_argument(
        '--late-update', choices=LATE_UPDATE, default='continue', help='when an update is late: '
        "go on, or wait for it as the paper's client does")
    parser.add_argument('--out', type=Path, default=Path('demo_output'), help='folder to write')
    parser.add_argument('--seed', type=int, default=1, help='of the scene')
    parser.add_argument('--look', default='day', help='of the scene')
    parser.add_argument(
        '--dashboard', action='store_true', help='serve a page to watch and steer it meanwhile')


def parse_size(text: str) -> tuple[int, int]:
    """Read a size such as 640x360: width and height."""
    width, _, height = text.partition('x')
    if not (width.isdecimal() and height.isdecimal()):
        raise argparse.ArgumentTypeError(f"'{text}' is not a size such as 640x360")
    return int(width), int(height)


def run(arguments: argparse.Namespace) -> int:
    """Run the demo and write its results; returns the exit status."""
    if arguments.record and arguments.record.exists():
        raise CommandError(
            f"--record '{arguments.record}' is there already: name another bag, or remove it")
    source = open_video(arguments)
    # Read here first, so that what is wrong with them is said at once.
    student = Student.load(arguments.student)
    classes = classes_of(arguments.classes) or student.classes
    teacher = load_teacher(arguments.teacher, device=choose_device('auto'))
    arguments.out.mkdir(parents=True, exist_ok=True)

    console = Console()
    console.print(
        f"[bold]{source.name}[/]: {source.count or 'all'} frames; teacher: {arguments.teacher}; "
        f'late update: {arguments.late_update}')
    keep_local()
    with served() if arguments.dashboard else nullcontext():
        recording = run_nodes(arguments, source, console, record=arguments.record)
    summary = _measure(arguments, source, student, classes, teacher, recording, console)
    (arguments.out / 'summary.json').write_text(json.dumps(summary, indent=2) + '\n')

    table = Table(title='ShadowTutor demo', show_header=False)
    for name, value in summary.items():
        if isinstance(value, list):
            value = '; '.join(value)
        table.add_row(name, f'{value:.3f}' if isinstance(value, float) else str(value))
    console.print(table)
    for path in (*(arguments.out / name for name in ('overlay.mp4', 'report.png', 'summary.json')),
                 *([arguments.record] if arguments.record else [])):
        console.print(f'wrote {path}', highlight=False)
    return 0


def open_video(arguments: argparse.Namespace) -> Source:
    """
    Open the video, and fill in the arguments whose default depends on it.

    :raises CommandError: if it is a camera.
    :raises SourceError: if it is missing or cannot be read.
    """
    if arguments.video.startswith('/dev/'):
        raise CommandError(
            'the frames are read twice, which a camera cannot: give a video file, a folder of '
            'images, a bag or scene, or run ros2 launch shadowtutor_ros demo.launch.py')
    scene = arguments.video == 'scene'
    arguments.frames = arguments.frames or (_DEFAULT_FRAMES if scene else 0)
    arguments.teacher = arguments.teacher or teacher_for([arguments.video])
    return open_source(
        arguments.video, arguments.size, arguments.frames, arguments.seed, arguments.look)


def run_nodes(
        arguments: argparse.Namespace, source: Source, console: Console,
        teacher_command: tuple[str, ...] = (), record: Path | None = None):
    """
    Run the three nodes until the camera has played all.

    :param arguments: those of :func:`add_arguments`, as :func:`open_video` leaves them.
    :param teacher_command: starts the teacher's process, where it is not to run beside the
        others; updates are not recorded then, so that the network carries them only once.
    :param record: the bag to write, if any.
    :returns: the Recorder.
    """
    with needing_ros():
        from shadowtutor_ros.commands.demo_bag import BagWriter
        from shadowtutor_ros.commands.demo_recorder import Recorder, TOPICS

    namespace = f'/shadowtutor_demo_{secrets.token_hex(3)}'
    width, height = arguments.size
    # Student and teacher share this computer.
    threads = max(1, (os.cpu_count() or 2) // 2)
    stamps = [one.stamp for one in source.recorded()] if source.recorded else []
    if len({*stamps}) < len(stamps):
        # They do not tell which frame a mask is of.
        stamps = []
    parameters = {
        'student': {
            'weights': arguments.student, 'late_update': arguments.late_update,
            'status_period': 0.2, 'threads': threads, **_class_parameters(arguments),
            # The camera waits for the student, so that time says nothing.
            'update_timeout': UPDATE_TIMEOUT, 'stride_rate': 0.0,
            # Large images over best effort get lost even on one machine.
            'qos_overrides': {
                f'{namespace}/image': {'subscription': {'reliability': 'reliable'}},
                # The recorder may be slower than the camera for a moment.
                f'{namespace}/segmentation/mask': {'publisher': {'depth': 100}}}},
        'teacher': {
            'robots': [''], 'state_folder': '',  # and none of others in this network
            'weights': arguments.student, 'teacher': arguments.teacher,
            'threads': threads},
        'camera': {
            'source': arguments.video, 'rate': 0.0, 'width': width, 'height': height,
            # The student and, where it records, the recorder.
            'wait_matching_subscriptions': 2 if record else 1,
            'frames': arguments.frames, 'headers': 'recorded' if stamps else 'new',
            # As with the masks.
            'qos_overrides': {f'{namespace}/image': {'publisher': {'depth': 10}}},
            'scene': {'seed': arguments.seed, 'look': arguments.look}}}
    with (tempfile.TemporaryDirectory() as folder,
          BagWriter(record, TOPICS) if record else nullcontext() as bag,
          Nodes(namespace, parameters, Path(folder), arguments.out) as nodes,
          Recorder(namespace, source.rate, stamps, not teacher_command, bag) as recorder):
        with WorkStatus(console, 'starting the student and the teacher') as status:
            nodes.start('student')
            nodes.start('teacher', teacher_command)
            _wait(lambda: recorder.ready, nodes, 'the student and the teacher to start')
            status.update('starting the camera')
            nodes.start('camera')
        with WorkProgress(
                TextColumn('{task.completed}/{task.fields[of]}'), BarColumn(10),
                TimeRemainingColumn(), TextColumn('{task.fields[state]}'),
                console=console) as progress:
            task = progress.add_task(
                'segmented', total=source.count or 0, of=source.count or '?', state='')
            last, since = 0, time.monotonic()
            while nodes.running('camera'):
                nodes.check('student', 'teacher')
                if len(recorder.masks) > last:
                    last, since = len(recorder.masks), time.monotonic()
                elif time.monotonic() > since + PATIENCE:
                    raise CommandError(
                        f'no mask for {PATIENCE:.0f} s: see {nodes.logs}/student.log')
                progress.update(
                    task, completed=len(recorder.masks), state=_describe(recorder.status))
                time.sleep(0.2)
            nodes.check('camera', 'student', 'teacher')
            # The last masks may still be on their way.
            recorder.wait_for_masks(timeout=5.0)
            progress.update(
                task, total=len(recorder.masks), completed=len(recorder.masks),
                of=len(recorder.masks), state=_describe(recorder.status))
    return recorder


def _class_parameters(arguments: argparse.Namespace) -> dict:
    """Return the parameter of the student that says what is to be seen."""
    if not arguments.classes:
        return {}
    if is_file(arguments.classes):
        name = arguments.classes
        return {'classes_file': name if name in SHIPPED else str(Path(name).resolve())}
    return {'classes': list(load_classes(arguments.classes).entries)}


def _describe(status) -> str:
    if status is None:
        return ''
    miou = '–' if np.isnan(status.metric_before) else f'{status.metric_before:.2f}'
    return (f'{status.mask_rate:.0f}/s, stride {status.stride}, mIoU {miou}, '
            f'{status.bytes_up / 1e3:.0f} kB up, {status.bytes_down / 1e3:.0f} down')


def _wait(condition, nodes: Nodes, what: str) -> None:
    end = time.monotonic() + START_TIMEOUT
    while not condition():
        nodes.check('student', 'teacher')
        if time.monotonic() > end:
            raise CommandError(f'waited {START_TIMEOUT:.0f} s for {what}: see {nodes.logs}/*.log')
        time.sleep(0.1)


def _measure(
        arguments: argparse.Namespace, source: Source, student: Student, classes: ClassTable,
        teacher: Teacher, recording, console: Console) -> dict:
    """Label the frames by the teacher, compare, write the overlay video and the plot."""
    # A client without a teacher is the student alone, whatever its classes.
    wild = Client(
        InferenceEngine(student, device=choose_device('auto')), lambda key_frame: None,
        ClientSettings())
    wild.connected = False
    wild.want(classes)
    video = OverlayVideo(arguments.out / 'overlay.mp4', source.rate, classes)
    indices, wild_miou, tutored_miou = [], [], []
    sampled_every, count = 1, 0
    with WorkProgress(
            TextColumn('{task.completed}/{task.total}'), BarColumn(10), TimeRemainingColumn(),
            TextColumn('measured against the teacher'), console=console) as progress:
        task = progress.add_task('', total=len(recording.masks))
        for index, frame in enumerate(source):
            count += 1
            if index not in recording.masks:
                continue
            alone = wild.on_frame(frame, 0.0)
            tutored = classes.places(recording.mask(index))
            if index % sampled_every == 0:
                begin = time.perf_counter()
                label = teacher(frame, classes).label
                if index == 1 and time.perf_counter() - begin > QUICK_TEACHER:
                    sampled_every = round((time.perf_counter() - begin) / QUICK_TEACHER) + 1
                indices.append(index)
                wild_miou.append(mean_iou(alone, label, len(classes)))
                tutored_miou.append(mean_iou(tutored, label, len(classes)))
            picture = video.add(
                frame, alone, tutored, f'student alone  mIoU {wild_miou[-1]:.2f}',
                f'with ShadowTutor  mIoU {tutored_miou[-1]:.2f}')
            progress.advance(task)
    video.close()
    if not indices:
        raise CommandError(f'no mask came: see {arguments.out}/student.log')

    key_frames = sorted(recording.key_frames)
    plot_run(RunCurves(
        f'{source.name}, teacher {Path(arguments.teacher).name}', indices, wild_miou, tutored_miou,
        key_frames,
        [recording.key_frames[index] for index in key_frames],
        [index for index, _ in recording.updates], [size for _, size in recording.updates],
        count), arguments.out / 'report.png')
    status = recording.status
    return {
        'video': source.name,
        'teacher': arguments.teacher,
        'classes': list(classes.entries),
        'student': arguments.student or 'shipped with the package',
        'size': f'{picture.shape[1] // 3}x{picture.shape[0]}',
        'late_update': arguments.late_update,
        'frames': count,
        'masks': len(recording.masks),
        'key_frames': status.key_frames_sent,
        'key_frame_ratio': status.key_frames_sent / count,
        'updates_applied': status.updates_applied,
        'updates_rejected': status.updates_rejected,
        'miou': float(np.mean(tutored_miou)),
        'miou_without_distillation': float(np.mean(wild_miou)),
        'miou_sampled_every': sampled_every,
        'fps': recording.rate,
        'bytes_up': status.bytes_up,
        'bytes_down': status.bytes_down,
        'duration_s': recording.duration,
    }
