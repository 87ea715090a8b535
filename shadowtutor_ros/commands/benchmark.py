"""
Measure speed and bytes on this machine, as ratios to the plain way of doing the same.

Inference, training, key frames, weight updates, and what the student node adds where ROS 2 is
there. What is compared runs in turn, and medians are given: on a machine that does other work too
the ratios hold better than the times.
"""

import argparse
from dataclasses import replace
from itertools import islice
import json
import os
from pathlib import Path
import secrets
import statistics
import tempfile
import time
from typing import Sequence

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
import torch

from shadowtutor_ros.classes import load_classes
from shadowtutor_ros.commands import CommandError
from shadowtutor_ros.commands import benchmark_speed as speed
from shadowtutor_ros.commands.demo import parse_size
from shadowtutor_ros.commands.progress import WorkProgress
from shadowtutor_ros.evaluation.settings import make_method, PAPER_SETTINGS
from shadowtutor_ros.memory import resident_bytes
from shadowtutor_ros.models.student.base import Student
from shadowtutor_ros.models.student.inference import choose_device, InferenceEngine, use_threads
from shadowtutor_ros.models.teachers import load_teacher
from shadowtutor_ros.models.teachers.base import TeacherPrediction
from shadowtutor_ros.nodes.processes import keep_local, Nodes
from shadowtutor_ros.sources.videos import open_source

#: What can be measured.
PARTS = ('inference', 'training', 'classes', 'key_frames', 'updates', 'node')

#: Frames that are used, and how far apart they are.
_FRAMES, _APART = 8, 10

#: Seconds for a node to start on a slow machine.
_START_TIMEOUT = 600.0

#: How often images are streamed to a node, with bare inference between, and seconds at most.
_STREAMS, _STREAM = 7, 5.0

#: Images a second in a stream, for each that bare inference takes: one is always waiting.
_STREAM_RATE = 1.1

#: Frames that a node is sent before those that count, and between two looks at bare inference.
_NODE_WARM_UP, _CHUNK = 20, 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the subcommand."""
    parser.add_argument(
        '--video', default='scene', help='a video file, a folder of images, a bag, or '
        "'scene'")
    parser.add_argument(
        '--size', type=parse_size, default='1280x720', metavar='WxH',
        help='that frames are brought to')
    parser.add_argument('--student', default='', help='weights; those of the package if empty')
    parser.add_argument(
        '--teacher', default='', help='as the parameter of the teacher node; empty: scene for the '
        'scene, else the student learns its own mask of another frame')
    parser.add_argument(
        '--classes', default='coco', help="large class table that is compared with the student's "
        'own: a YAML file, or names')
    parser.add_argument(
        '--parts', default=','.join(PARTS), help='what to measure, separated by commas')
    parser.add_argument('--rounds', type=int, default=15, help='that medians are taken of')
    parser.add_argument(
        '--frames', type=int, default=300, help='that are sent through the student node')
    parser.add_argument('--device', default='auto', help='of PyTorch: auto, cpu or cuda')
    parser.add_argument(
        '--threads', type=int, default=0, help='that PyTorch computes with; 0: its own choice. '
        'The node has one less than there are cores, as others share the machine with it')
    parser.add_argument('--json', type=Path, metavar='FILE', help='also write the figures here')


def run(arguments: argparse.Namespace) -> int:
    """Measure, and print the figures; returns the exit status."""
    parts = arguments.parts.split(',')
    for part in parts:
        if part not in PARTS:
            raise CommandError(f"part '{part}' is unknown: choose from {', '.join(PARTS)}")
    if arguments.rounds < 1 or arguments.frames < 1 or arguments.threads < 0:
        raise CommandError('--rounds and --frames are 1 or above, and --threads 0 or above')
    use_threads(arguments.threads)
    device = choose_device(arguments.device)
    student = Student.load(arguments.student)
    source = open_source(arguments.video, arguments.size)
    frames = list(islice(source, 0, _FRAMES * _APART, _APART))
    console = Console()
    results = {
        'machine': speed.describe_machine(),
        'conditions': {
            'video': source.name, 'size': f'{frames[0].shape[1]}x{frames[0].shape[0]}',
            'student': arguments.student or 'shipped with the package', 'device': device,
            'rounds': arguments.rounds}}
    with WorkProgress(
            TextColumn('{task.description}'), BarColumn(20),
            TextColumn('{task.completed}/{task.total}'), TimeElapsedColumn(),
            console=console, transient=True) as progress:
        def ticker(what: str, total: int) -> speed.Tick:
            task = progress.add_task(what, total=total)
            return lambda: progress.advance(task)

        if 'inference' in parts:
            results['inference'] = speed.measure_inference(
                student, frames, arguments.rounds, device,
                ticker('inference', speed.WARM_UP + arguments.rounds))
        if 'training' in parts or 'updates' in parts:
            settings = replace(
                make_method('partial', None, PAPER_SETTINGS).server, threshold=1.0)
            rounds = max(1, arguments.rounds // 5)
            training, trained = speed.measure_training(
                student, frames[0], _teach(arguments, student, frames), settings, rounds, device,
                ticker('training', rounds))
            if 'training' in parts:
                results['training'] = training
            if 'updates' in parts:
                results['updates'] = speed.measure_updates(
                    student.state_dict(), trained, tick=ticker('weight updates', None))
        if 'classes' in parts:
            classes = load_classes(arguments.classes)
            results['classes'] = speed.measure_classes(
                student, frames[0], _teach(arguments, student, frames), classes, arguments.rounds,
                device, ticker('classes', speed.WARM_UP + arguments.rounds))
        if 'key_frames' in parts:
            results['key_frames'] = speed.measure_key_frames(
                frames, ticker('key frames', None))
        if 'node' in parts:
            try:
                results['node'] = _measure_node(arguments, student, device, frames, ticker)
            except ImportError as error:
                console.print(f'the node is not measured: ROS 2 is not there ({error})')
    for table in _tables(results):
        console.print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + '\n')
        console.print(f'wrote {arguments.json}', highlight=False)
    return 0


def _teach(
        arguments: argparse.Namespace, student: Student, frames: Sequence[np.ndarray]
) -> TeacherPrediction:
    """Label the first frame."""
    teacher = arguments.teacher or ('scene' if arguments.video == 'scene' else '')
    if teacher:
        return load_teacher(
            teacher, device=choose_device(arguments.device))(frames[0], student.classes)
    # The student's own mask, mirrored, so that there is something to learn.
    mirrored = np.ascontiguousarray(InferenceEngine(student)(frames[0])[:, ::-1])
    return TeacherPrediction(mirrored, np.zeros((0, 4), np.float32))


def _measure_node(
        arguments: argparse.Namespace, student: Student, device: str,
        frames: Sequence[np.ndarray], ticker) -> dict[str, float]:
    """Measure what the student node adds to inference, on images from another process."""
    from shadowtutor_ros.commands.benchmark_probe import measure_assignment, Probe
    from shadowtutor_ros.nodes.running import large_shared_memory

    keep_local()
    large_shared_memory()
    threads = max(1, (os.cpu_count() or 2) - 1)
    torch.set_num_threads(threads)
    engine = InferenceEngine(student, 'exact', device)

    def bare() -> list[float]:
        times = []
        for frame in [*frames[:speed.WARM_UP], *frames]:
            begin = time.perf_counter()
            engine(frame)
            times.append(time.perf_counter() - begin)
        return times[speed.WARM_UP:]

    namespace = f'/shadowtutor_benchmark_{secrets.token_hex(3)}'
    parameters = {'student': {
        'weights': arguments.student, 'device': device, 'threads': threads, 'status_period': 0.5,
        # Nothing may be lost where the next image waits for the last one's mask.
        'qos_overrides': {f'{namespace}/image': {'subscription': {'reliability': 'reliable'}}}}}
    tick = ticker('node', arguments.frames)
    with (tempfile.TemporaryDirectory() as folder,
          Nodes(namespace, parameters, Path(folder), Path(folder)) as nodes,
          Probe(namespace, frames) as probe):
        nodes.start('student')
        end = time.monotonic() + _START_TIMEOUT
        while not probe.ready:
            nodes.check('student')
            if time.monotonic() > end:
                raise CommandError(f'the student node did not start in {_START_TIMEOUT:.0f} s')
            time.sleep(0.1)
        try:
            probe.lock_step(_NODE_WARM_UP, lambda: None)
            before = resident_bytes(nodes.pid('student')) / 2 ** 20
            bare_times, latencies, in_node, inference = bare(), [], [], []
            while (left := arguments.frames - len(latencies)) > 0:
                probe.statuses.clear()
                latencies += probe.lock_step(min(left, _CHUNK), tick)
                probe.wait_for_status()
                in_node += [
                    status.latency_seconds - status.t_si for status in probe.statuses]
                inference += [status.t_si for status in probe.statuses]
                bare_times += bare()
            after = resident_bytes(nodes.pid('student')) / 2 ** 20
            alone = statistics.median(bare_times)
            rates, bare_rates, around = [], [], bare()
            for _ in range(_STREAMS):
                rates.append(probe.stream(
                    _STREAM_RATE / alone, min(_STREAM, arguments.frames * alone)))
                around = around[-len(frames):] + bare()
                bare_rates.append(1 / statistics.median(around))
        except TimeoutError as error:
            nodes.check('student')
            raise CommandError(f'the student node: {error}') from None
    return {
        'threads': threads, 'frames': arguments.frames, 'bare_ms': alone * 1e3,
        'inference_in_node_ms': float(np.nanmedian(inference)) * 1e3,
        'end_to_end_ms': statistics.median(latencies) * 1e3,
        'end_to_end_overhead_ms': (statistics.median(latencies) - alone) * 1e3,
        'overhead_in_node_ms': float(np.nanmedian(in_node)) * 1e3,
        'rate': statistics.median(rates), 'bare_rate': statistics.median(bare_rates),
        'share_of_bare_rate': statistics.median(np.divide(rates, bare_rates)),
        'resident_mib_before': before, 'resident_mib_after': after,
        **measure_assignment(frames[0])}


def _tables(results: dict) -> list[Table]:
    """Lay the figures out."""
    machine, conditions = results['machine'], results['conditions']
    tables = [Table(
        title=f"{conditions['video']} at {conditions['size']} on {conditions['device']}",
        caption=f"{machine['cpu']} ({machine['instructions']}), {machine['cores']} cores, "
        f"{machine['threads']} threads, load {machine['load']}; GPU: {machine['gpu']}; "
        f"PyTorch {machine['torch']}")]
    for column in ('', 'plain', 'here', 'ratio', 'remark'):
        tables[0].add_column(column, justify='left' if column in ('', 'remark') else 'right')
    inference, training = results.get('inference'), results.get('training')
    for precision in inference or ():
        if precision != 'plain':
            figures = inference[precision]
            tables[0].add_row(
                f'inference, {precision}', f"{inference['plain']['ms']:.1f} ms",
                f"{figures['ms']:.1f} ms", f"{figures['speedup']:.1f}×",
                f"{figures['equal_pixels']:.4%} of pixels equal")
    if training:
        tables[0].add_row(
            'training step', f"{training['plain_ms']:.0f} ms", f"{training['ms']:.0f} ms",
            f"{training['speedup']:.1f}×",
            f"losses differ by {training['largest_loss_difference']:.1e} at most")
    if classes := results.get('classes'):
        for what, title in (('frame', 'inference'), ('step', 'training step')):
            tables[0].add_row(
                f"{title}, {classes['classes']} classes", f"{classes[f'{what}_own_ms']:.1f} ms",
                f"{classes[f'{what}_ms']:.1f} ms", f"{classes[f'{what}_growth']:.2f}×",
                'the time of the few; as many on offer')
    if node := results.get('node'):
        tables[0].add_row(
            'image to mask, other process', f"{node['bare_ms']:.1f} ms",
            f"{node['end_to_end_ms']:.1f} ms", f"+{node['end_to_end_overhead_ms']:.1f} ms",
            f"of which in the node {node['overhead_in_node_ms']:.1f} ms, the rest DDS; "
            f"{node['threads']} threads")
        tables[0].add_row(
            'masks of a stream', f"{node['bare_rate']:.1f}/s", f"{node['rate']:.1f}/s",
            f"{node['share_of_bare_rate']:.0%}", 'of the rate of inference alone')
        tables[0].add_row(
            'memory of the node', f"{node['resident_mib_before']:.0f} MiB",
            f"{node['resident_mib_after']:.0f} MiB",
            f"{node['resident_mib_after'] - node['resident_mib_before']:+.0f} MiB",
            f"before and after {node['frames']} frames")
        tables[0].add_row(
            'uint8[] of an image', f"{node['assign_list_ms']:.0f} ms",
            f"{node['assign_array_ms']:.2f} ms",
            f"{node['assign_list_ms'] / node['assign_array_ms']:.0f}×", 'as a list, as an array')
    for part, title, whole in (
            ('key_frames', 'Key frames', 'raw'), ('updates', 'Weight updates', 'fp32')):
        if part not in results:
            continue
        rows = results[part]
        first = next(iter(rows.values()))
        tables.append(Table(title=title))
        for column in (part.removesuffix('s').replace('_', ' '), f'of {whole}', *first):
            tables[-1].add_column(column.replace('_ms', ', ms'), justify='right')
        for name, figures in rows.items():
            tables[-1].add_row(
                name, f"{figures['bytes'] / rows[whole]['bytes']:.1%}", *(
                    f'{value:,.0f}' if key == 'bytes' else f'{value:.2f}'
                    for key, value in figures.items()))
    return tables
