"""Train a student from nothing on looks of the built-in scene."""

import argparse
from dataclasses import asdict
import json
from pathlib import Path
import time

from rich.console import Console
from rich.progress import Progress, TextColumn

from shadowtutor_ros import __version__
from shadowtutor_ros.commands import CommandError
from shadowtutor_ros.evaluation.pretraining import pretrain, PretrainSettings, SceneDataset
from shadowtutor_ros.evaluation.scenes import LOOKS

_DEFAULTS = PretrainSettings()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the subcommand."""
    parser.add_argument(
        '--looks', default=','.join(LOOKS), help='of the scene, to train and validate on')
    parser.add_argument('--scenes', type=int, default=8, help='scenes of each look to train on')
    parser.add_argument('--scene-frames', type=int, default=200, help='frames of each scene')
    parser.add_argument('--width', type=int, default=640, help='of the frames')
    parser.add_argument('--height', type=int, default=360, help='of the frames')
    parser.add_argument('--steps', type=int, default=_DEFAULTS.steps, help='of Adam')
    parser.add_argument(
        '--batch-size', type=int, default=_DEFAULTS.batch_size, help='frames a step')
    parser.add_argument(
        '--learning-rate', type=float, default=_DEFAULTS.learning_rate, help='at its peak')
    parser.add_argument('--seed', type=int, default=_DEFAULTS.seed, help='of everything random')
    parser.add_argument(
        '--out', type=Path, default=Path('student.safetensors'), help='file to write')


def run(arguments: argparse.Namespace) -> int:
    """Train and save a student; returns the exit status."""
    looks = arguments.looks.split(',')
    unknown = [look for look in looks if look not in LOOKS]
    if unknown:
        raise CommandError(f"look '{unknown[0]}' is unknown: choose from {', '.join(LOOKS)}")
    if arguments.out.suffix != '.safetensors':
        raise CommandError(f"--out '{arguments.out}' does not end in .safetensors")
    if min(arguments.steps, arguments.scenes, arguments.scene_frames, arguments.batch_size) < 1:
        raise CommandError('--steps, --scenes, --scene-frames and --batch-size are 1 at least')
    settings = PretrainSettings(
        steps=arguments.steps, batch_size=arguments.batch_size, seed=arguments.seed,
        learning_rate=arguments.learning_rate)
    size = arguments.width, arguments.height
    console = Console()
    begin = time.monotonic()
    with console.status('painting the scenes'):
        # Seeds from 1000 on, so that nothing that is shown with a small seed was trained on.
        first = 1000 + 100 * arguments.seed
        training = SceneDataset(
            looks, range(first, first + arguments.scenes), arguments.scene_frames, size)
        validation = SceneDataset(looks, range(first + 99, first + 100), 10, size)
    console.print(f'{len(training)} frames to train on, {len(validation)} to validate on')
    with Progress(*Progress.get_default_columns(), TextColumn('{task.fields[state]}'),
                  console=console) as progress:
        task = progress.add_task('training', total=settings.steps, state='')

        def on_step(step: int, loss: float, miou: float | None) -> None:
            progress.update(task, completed=step, state=f'loss {loss:.3f}')
            if miou is not None:
                progress.console.print(f'step {step}: validation mIoU {miou:.3f}')

        student, miou = pretrain(training, validation, settings, on_step)
    recipe = {
        'command': 'shadowtutor pretrain', 'version': __version__, **asdict(settings),
        'looks': looks, 'scenes': arguments.scenes, 'scene_frames': arguments.scene_frames,
        'size': size, 'validation_miou': round(miou, 4),
        'minutes': round((time.monotonic() - begin) / 60, 1)}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    student.save(arguments.out, recipe=json.dumps(recipe))
    console.print(f'wrote {arguments.out}: validation mIoU {miou:.3f}', highlight=False)
    return 0
