"""Train a student from nothing on labelled images, on the built-in scene, or on both."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
import json
import math
from pathlib import Path
import signal
import time
from types import FrameType

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
import torch

from shadowtutor_ros import __version__
from shadowtutor_ros.classes import ClassTable, LVS
from shadowtutor_ros.commands import CommandError
from shadowtutor_ros.commands.class_option import CLASSES_HELP, classes_of
from shadowtutor_ros.commands.progress import WorkProgress, WorkStatus
from shadowtutor_ros.limits import MIN_SIDE
from shadowtutor_ros.models.safetensors_file import load_file
from shadowtutor_ros.models.student.base import architecture, ARCHITECTURES
from shadowtutor_ros.models.student.inference import use_threads
from shadowtutor_ros.models.student.shadow import Shadow
from shadowtutor_ros.pretraining.datasets import (
    coco_folder, Dataset, label_folder, scene_dataset)
from shadowtutor_ros.pretraining.training import (
    load_start, MIN_CROP, Pretraining, PretrainSettings, SCHEDULES, validate)
from shadowtutor_ros.world.scenes import LOOKS

#: Seconds from one checkpoint to the next, at most (and a step).
CHECKPOINT_PERIOD = 60.0

_DEFAULTS = PretrainSettings()

#: Of a look, to train on; a seed's next one is to validate on.
_MOST_SCENES = 99


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the subcommand."""
    data = parser.add_argument_group('what to train on')
    data.add_argument(
        '--data', nargs='+', default=['scene'], metavar='DATA', help="'scene'; a folder of "
        'images/NAME.jpg with labels/NAME.png (8-bit ids of --classes, or of the table '
        'classes.yaml if the folder has one; 255: not known) and, if there is one, sources.tsv '
        '(file, split, dataset, licence); a folder of COCO with annotations/instances_SPLIT.json '
        'and SPLIT/')
    data.add_argument(
        '--shares', default='', help='of each of DATA in the batches, separated by commas; empty: '
        'all alike')
    data.add_argument(
        '--classes', default='', help=CLASSES_HELP.replace('the weights', '--start, or else lvs'))
    data.add_argument('--looks', default=','.join(LOOKS), help='of the scene')
    data.add_argument('--scenes', type=int, default=8, help='scenes of each look to train on')
    data.add_argument('--scene-frames', type=int, default=50, help='frames of each scene')
    data.add_argument(
        '--scene-size', type=_size, default='640x360', help='of its frames, width x height')
    how = parser.add_argument_group('how to train')
    how.add_argument(
        '--steps', type=int, default=_DEFAULTS.steps, help='of Adam; 0: only write '
        'the weights of --start, with rows for --classes')
    how.add_argument('--batch-size', type=int, default=_DEFAULTS.batch_size, help='images a step')
    how.add_argument(
        '--learning-rate', type=float, default=_DEFAULTS.learning_rate, help='at its peak')
    how.add_argument(
        '--schedule', choices=SCHEDULES, default=_DEFAULTS.schedule, help='decay: falls over the '
        "last three tenths of the steps; milestones: as the first implementation's (which had "
        'learning rate 0.001, batch size 8), to a tenth after each third')
    how.add_argument(
        '--object-weight', type=float, default=_DEFAULTS.object_weight, help='of objects in the '
        'loss; background has 1')
    how.add_argument(
        '--crop', type=int, default=_DEFAULTS.crop,
        help='side of the squares that the student sees, a multiple of 8')
    how.add_argument(
        '--architecture', choices=ARCHITECTURES, default='', help='of the student (default: of '
        '--start, or else shadow); it takes what fits of a --start of another')
    how.add_argument(
        '--start', type=Path, help='weights to begin with; those of other classes get rows for '
        'these')
    how.add_argument(
        '--start-classes', default='', help='of --start, where the file does not say them as a '
        '.pth; as for --classes, in the order of its rows, background included (default: lvs)')
    how.add_argument('--threads', type=int, default=0, help="of PyTorch; 0: PyTorch's choice")
    how.add_argument('--seed', type=int, default=_DEFAULTS.seed, help='of everything random')
    how.add_argument(
        '--validate-every', type=int, default=_DEFAULTS.validate_every, help='steps')
    parser.add_argument(
        '--out', type=Path, default=Path('student.safetensors'), help='file to write the best '
        'student to; the checkpoint lies beside it')
    parser.add_argument(
        '--resume', action='store_true', help='go on from the checkpoint beside --out')


def run(arguments: argparse.Namespace) -> int:
    """Train and save a student; returns the exit status."""
    settings = _settings(arguments)
    shares = _shares(arguments)
    classes = classes_of(arguments.classes)
    kind = architecture(arguments.architecture) if arguments.architecture else None
    # New layers of a start are drawn by chance, too.
    torch.manual_seed(settings.seed)
    start = load_start(
        arguments.start, classes, classes_of(arguments.start_classes), kind
    ) if arguments.start else None
    classes = start.classes if start else classes or LVS
    out, checkpoint = arguments.out, arguments.out.with_suffix('.checkpoint')
    use_threads(arguments.threads)
    console = Console()
    with WorkStatus(console, 'opening the data'):
        opened = [_open(data, arguments, classes) for data in arguments.data]
    training, validation = ([pair[kind] for pair in opened] for kind in (0, 1))
    for data, share in zip(opened, shares):
        console.print(
            f'{data[0].name}: {len(data[0])} images to train on, {len(data[1])} to validate on, '
            f'{share:.0%} of the batches', highlight=False)
        if data[0].remark:
            console.print(f'{data[0].name}: {data[0].remark}', style='yellow', highlight=False)
    origin = {'start': _origin(arguments.start)}
    if 'scene' in arguments.data:
        origin |= {name: getattr(arguments, name) for name in (
            'looks', 'scenes', 'scene_frames', 'scene_size')}
    pretraining = Pretraining(
        training, shares, settings, classes, start, origin, kind or Shadow)
    if arguments.resume:
        pretraining.load(checkpoint)
        console.print(f'going on after step {pretraining.step}', highlight=False)
    out.parent.mkdir(parents=True, exist_ok=True)
    recipe = {
        'command': 'shadowtutor pretrain', 'version': __version__, **asdict(settings),
        'architecture': pretraining.student.architecture,
        'classes': list(classes.entries), **origin,
        'data': [{'name': dataset.name, 'share': share, 'images': len(dataset),
                  'licences': dataset.licences} for dataset, share in zip(training, shares)]}
    with _finishing_the_step(console) as interrupted:
        _train(pretraining, validation, recipe, _licence(training, arguments.start), out,
               checkpoint, console, interrupted)
    if interrupted:
        console.print(
            f"'{checkpoint}' holds step {pretraining.step}: --resume goes on from there",
            highlight=False)
        return 130
    console.print(
        f'wrote {out}: validation mIoU {pretraining.best_miou:.3f}', highlight=False)
    return 0


def _metadata(start: Path | None) -> dict[str, str]:
    """Return what the file of the weights to begin with says of itself."""
    if start is None or start.suffix != '.safetensors':
        return {}
    return load_file(start)[1]


def _origin(start: Path | None) -> dict | None:
    """Say where the weights to begin with are from: their file's name and own recipe."""
    if start is None:
        return None
    recipe = _metadata(start).get('recipe')
    return {'file': start.name, 'recipe': json.loads(recipe) if recipe else None}


def _licence(training: list[Dataset], start: Path | None) -> str:
    """Say under which licences is what a student was trained on, and what it began with."""
    licences = [one for dataset in training
                for one in dataset.licences or (f'{dataset.name}: not said',)]
    if start is not None:
        licences += _metadata(start).get('licence', f'{start.name}: not said').split('; ')
    return '; '.join(dict.fromkeys(licences))


@contextmanager
def _finishing_the_step(console: Console) -> Iterator[list[int]]:
    """Let the first Ctrl-C be noted in a list, so that no step is left half done."""
    interrupted: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        interrupted.append(number)
        signal.signal(signal.SIGINT, before)
        console.print('finishing this step; Ctrl-C again leaves at once')

    before = signal.signal(signal.SIGINT, note)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before)


def _train(
        pretraining: Pretraining, validation: list[Dataset], recipe: dict, licence: str,
        out: Path, checkpoint: Path, console: Console, interrupted: list[int]) -> None:
    """Train to the end or until interrupted; writes the best student and checkpoints."""
    settings = pretraining.settings
    begin = time.monotonic() - pretraining.seconds
    saved = time.monotonic()
    with WorkProgress(
            TextColumn('training'), BarColumn(20),
            TextColumn('{task.completed}/{task.total}'), TimeRemainingColumn(),
            TextColumn('{task.fields[state]}'), console=console) as progress:
        task = progress.add_task(
            '', total=settings.steps, completed=pretraining.step, state='')

        def keep_the_best() -> None:
            progress.update(task, state='validating')
            student = pretraining.result
            for data, dataset in zip(recipe['data'], validation):
                data['validation_miou'] = round(validate(student, dataset), 4)
            miou = sum(data['share'] * data['validation_miou'] for data in recipe['data'])
            scores = ', '.join(
                f"{data['name']} {data['validation_miou']:.3f}" for data in recipe['data'])
            progress.console.print(
                f'step {pretraining.step}: validation mIoU {scores}', highlight=False)
            if miou > pretraining.best_miou:
                pretraining.best_miou = miou
                student.save(out, licence=licence, recipe=json.dumps({
                    **recipe, 'step': pretraining.step,
                    'minutes': round(pretraining.seconds / 60, 1)}))

        if settings.steps == 0:
            keep_the_best()
        while pretraining.step < settings.steps and not interrupted:
            loss = pretraining.train_step()
            pretraining.seconds = time.monotonic() - begin
            progress.update(task, completed=pretraining.step, state=f'loss {loss:.3f}')
            if (pretraining.step % settings.validate_every == 0
                    or pretraining.step == settings.steps):
                keep_the_best()
                saved = -math.inf
            if time.monotonic() > saved + CHECKPOINT_PERIOD:
                pretraining.save(checkpoint)
                saved = time.monotonic()
    if interrupted:
        pretraining.save(checkpoint)


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition('x')
    if not (width.isdigit() and height.isdigit() and min(int(width), int(height)) >= MIN_SIDE):
        raise argparse.ArgumentTypeError(
            f"'{text}' is no size: give one such as 640x360, {MIN_SIDE} at least")
    return int(width), int(height)


def _settings(arguments: argparse.Namespace) -> PretrainSettings:
    """Make the settings of the arguments."""
    if arguments.out.suffix != '.safetensors':
        raise CommandError(f"--out '{arguments.out}' does not end in .safetensors")
    if arguments.start and arguments.start.resolve() == arguments.out.resolve():
        raise CommandError(
            f"--out '{arguments.out}' is the file of --start, which --resume still needs: name "
            'another')
    least = {'steps': 0 if arguments.start else 1, 'scenes': 1, 'scene_frames': 1,
             'batch_size': 1, 'crop': MIN_CROP, 'validate_every': 1}
    for name, wanted in least.items():
        if getattr(arguments, name) < wanted:
            raise CommandError(f"--{name.replace('_', '-')} is {wanted} at least")
    if arguments.scenes > _MOST_SCENES:
        raise CommandError(f'--scenes is {_MOST_SCENES} at most: others are to validate on')
    if arguments.crop % 8:
        raise CommandError(f'--crop {arguments.crop} is not a multiple of 8')
    return PretrainSettings(**{
        name: getattr(arguments, name) for name in (
            'steps', 'batch_size', 'learning_rate', 'schedule', 'object_weight', 'crop', 'seed',
            'validate_every')})


def _shares(arguments: argparse.Namespace) -> list[float]:
    """Return the share of each data set in the batches; they sum to 1."""
    count = len(arguments.data)
    try:
        shares = [float(share) for share in arguments.shares.split(',')] if (
            arguments.shares) else [1.0] * count
    except ValueError:
        shares = []
    if len(shares) != count or min(shares) <= 0:
        raise CommandError(
            f"--shares '{arguments.shares}' are not {count} numbers above 0: give one for each of "
            '--data, separated by commas')
    return [share / sum(shares) for share in shares]


def _open(
        data: str, arguments: argparse.Namespace, classes: ClassTable) -> tuple[Dataset, Dataset]:
    """Open what to train on and what to validate on."""
    folder = Path(data)
    if data == 'scene':
        looks = arguments.looks.split(',')
        unknown = [look for look in looks if look not in LOOKS]
        if unknown:
            raise CommandError(f"look '{unknown[0]}' is unknown: choose from {', '.join(LOOKS)}")
        # Seeds from 1000 on, so that nothing that is shown with a small seed was trained on.
        first = 1000 + (_MOST_SCENES + 1) * arguments.seed
        last = first + _MOST_SCENES
        return (
            scene_dataset(looks, range(first, first + arguments.scenes), arguments.scene_frames,
                          arguments.scene_size, classes=classes),
            scene_dataset(
                looks, range(last, last + 1), 10, arguments.scene_size, classes=classes))
    if (folder / 'annotations').is_dir():
        return coco_folder(folder, classes, arguments.seed)
    if (folder / 'images').is_dir() and (folder / 'labels').is_dir():
        return label_folder(folder, classes, arguments.seed)
    raise CommandError(
        f"'{data}' is no data: give 'scene', a folder with images/ and labels/, or one with "
        'annotations/instances_SPLIT.json')
