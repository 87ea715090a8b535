"""
Write a student as ONNX, and check it against PyTorch on a frame of the built-in scene.

For ONNX Runtime, TensorRT and whatever else reads ONNX. Input: image, N×3×H×W float32, BGR, 0 to
255. Outputs: mask, N×H×W int32, class ids; logits, what it is made of, at half the size.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console

from shadowtutor_ros.commands import CommandError
from shadowtutor_ros.commands.class_option import CLASSES_HELP, classes_of
from shadowtutor_ros.commands.demo import parse_size
from shadowtutor_ros.commands.progress import WorkStatus
from shadowtutor_ros.files import replacing
from shadowtutor_ros.limits import MIN_SIDE
from shadowtutor_ros.models.student.base import Student
from shadowtutor_ros.models.student.onnx_export import compare, export_onnx
from shadowtutor_ros.world.scenes import Scene

#: Frames by size, width and height, that a file of any size is checked with: numbers of them.
_ANY_SIZE = {(640, 360): 1, (320, 192): 2}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the subcommand."""
    parser.add_argument(
        'student', metavar='STUDENT',
        help="its weights, as ~/save_weights writes them; '' for those of the package")
    parser.add_argument(
        '--out', type=Path, default=argparse.SUPPRESS, metavar='FILE.onnx',
        help='file to write (default: beside STUDENT)')
    parser.add_argument(
        '--size', type=parse_size, metavar='WxH', help='of the only images that it is to take, '
        'one at a time; left out, it takes any number of any size of which both sides are '
        'multiples of 8')
    parser.add_argument('--classes', default='', help=CLASSES_HELP.replace(
        'what is to be seen', 'what it chooses from, of what it has learnt'))


def run(arguments: argparse.Namespace) -> int:
    """Export and check; returns the exit status."""
    out = arguments.out if 'out' in arguments else Path(
        arguments.student or 'student').with_suffix('.onnx')
    if out.suffix != '.onnx':
        raise CommandError(f"--out '{out}' does not end in .onnx")
    size = arguments.size
    if size and min(size) < MIN_SIDE:
        raise CommandError(f'--size {size[0]}x{size[1]} is below {MIN_SIDE}x{MIN_SIDE}')
    student = with_classes(Student.load(arguments.student), arguments.classes)
    console = Console()
    with replacing(out) as new:
        with WorkStatus(console, 'exporting'):
            file = export_onnx(student, size and size[::-1])
            new.write_bytes(file)
        found = [one for side, count in ({size: 1} if size else _ANY_SIZE).items()
                 for one in compare(file, student, _frames(side, count))]
        for one in found:
            console.print(
                f'a scene of {one.size[1]}x{one.size[0]}: logits differ from those of PyTorch by '
                f'{one.difference:.2g} at most, of {one.largest:.3g}; {one.equal:.4%} of the '
                'pixels are equal', highlight=False)
        if not all(one.agrees for one in found):
            raise CommandError(
                f"what was exported does not compute what PyTorch does, so '{out}' is not "
                'written: try another version of onnxruntime or torch')
    console.print(
        f"wrote {out}: {len(file) / 1e6:.1f} MB, classes {', '.join(student.classes.names)}",
        highlight=False, soft_wrap=True)
    return 0


def with_classes(student: Student, text: str) -> Student:
    """
    Give a student the rows of some of its classes, in their order, with their ids and colours.

    :param text: of the option; empty: all as they are.
    :raises CommandError: if it does not know one.
    """
    table = classes_of(text)
    if table is None:
        return student
    own, weights = student.classes, student.weights()
    unknown = [name for place, name in enumerate(table.names) if place != table.background
               and own.find(name) is None and own.find_like(name, table.members[place]) is None]
    if unknown:
        raise CommandError(
            f"--classes: the student has not learnt {', '.join(unknown)}; it has learnt "
            f"{', '.join(own.names)}")
    wanted = student.copy_with(
        student.with_classes(weights, own, table, (weights, own)), table)
    wanted.about = student.about
    return wanted


def _frames(size: tuple[int, int], count: int) -> np.ndarray:
    """Render frames of the scene: count×H×W×3 uint8, BGR."""
    scene = Scene(1, 'day', 640, 360)
    return np.stack([cv2.resize(scene.render(40 * number).image, size)
                     for number in range(1, count + 1)])
