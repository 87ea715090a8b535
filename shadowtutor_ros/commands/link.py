"""
Run the system over a real link of a given bandwidth, and simulate the same beside it.

Student and camera are in one network namespace of this machine, the teacher in another; DDS
crosses a veth pair that tc holds to the bandwidth. The simulation is given what frames, training
steps and the teacher took there, and the bandwidth: what it says of throughput, network time and
traffic is to be compared with what was measured. Linux alone, as root.
"""

import argparse
from concurrent.futures import ProcessPoolExecutor
import itertools
import json
from multiprocessing import get_context
import os
from pathlib import Path
import signal
from statistics import median

import numpy as np
from rich.console import Console
from rich.table import Table

from shadowtutor_ros.algorithms.analytic_model import Bounds
from shadowtutor_ros.algorithms.client import ClientSettings
from shadowtutor_ros.commands import CommandError, demo
from shadowtutor_ros.commands.progress import WorkStatus
from shadowtutor_ros.evaluation.plots import headless_pyplot
from shadowtutor_ros.evaluation.profile import Link, Profile
from shadowtutor_ros.evaluation.simulate import Method, Simulation
from shadowtutor_ros.models.student.base import Student
from shadowtutor_ros.models.student.inference import use_threads
from shadowtutor_ros.models.teachers import load_teacher
from shadowtutor_ros.models.teachers.base import TeacherPrediction
from shadowtutor_ros.nodes.processes import end
from shadowtutor_ros.reliability.veth import enter, VethLink

_MEGA = 1e6

# What is compared: name in the results, title, unit, what a figure is divided by.
_COLUMNS = (
    ('throughput_fps', 'throughput', 'frames/s', 1),
    ('t_net_s', 't_net', 'ms', 1e-3),
    ('traffic_bit_per_s', 'traffic', 'Mbit/s', _MEGA),
    ('key_frame_ratio', 'key frames', '%', 1e-2))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the subcommand."""
    demo.add_run_arguments(parser)
    parser.set_defaults(late_update='wait', out=Path('link_output'))
    parser.add_argument(
        '--bandwidths', type=_bandwidths, default=(80.0, 20.0, 8.0), metavar='MBIT,…',
        help='Mbit/s each way')


def _bandwidths(text: str) -> tuple[float, ...]:
    try:
        values = tuple(map(float, text.split(',')))
    except ValueError:
        values = ()
    if not values or not all(0.01 <= value <= 10_000 for value in values):
        raise argparse.ArgumentTypeError(
            f"'{text}' is not a list of Mbit/s, 0.01 to 10000, such as 80,20,8")
    return values


def run(arguments: argparse.Namespace) -> int:
    """Measure, simulate, and write both; returns the exit status."""
    demo.open_video(arguments)
    Student.load(arguments.student)
    console, results = Console(), []
    folder = arguments.out
    # A process of its own, since a namespace is entered for good.
    with VethLink() as link, ProcessPoolExecutor(
            1, get_context('spawn'), _enter, (link.robot,)) as robot:
        for megabits in arguments.bandwidths:
            console.print(f'[bold]{megabits:g} Mbit/s[/]')
            arguments.out = folder / f'{megabits:g}'
            arguments.out.mkdir(parents=True, exist_ok=True)
            bandwidth = megabits * _MEGA
            link.limit(bandwidth)
            before = link.bytes_sent()
            measured = robot.submit(measure, arguments, link.workstation).result()
            measured['link_bytes_up'], measured['link_bytes_down'] = (
                int(n) for n in np.subtract(link.bytes_sent(), before))
            with WorkStatus(console, 'simulating the same'):
                simulated = simulate(arguments, bandwidth, measured)
            results.append({
                'bandwidth_bit_per_s': bandwidth, 'measured': measured, 'simulated': simulated})
            # Each at once, so that a run that is broken off leaves what is done.
            (folder / 'link.json').write_text(json.dumps(results, indent=2) + '\n')
            (folder / 'link.md').write_text(as_markdown(results))
    _print(results, console)
    plot(results, folder / 'link.png')
    for name in ('link.json', 'link.md', 'link.png'):
        console.print(f'wrote {folder / name}', highlight=False)
    return 0


def _enter(namespace: str) -> None:
    """Begin the process that runs the nodes: in its namespace, ending them when it ends."""
    signal.signal(signal.SIGTERM, end)
    enter(namespace)


# --- measured ------------------------------------------------------------------------------------

def measure(arguments: argparse.Namespace, workstation: str) -> dict:
    """
    Run the nodes; called in the robot's namespace.

    :param arguments: of :func:`add_arguments`.
    :param workstation: the namespace of the teacher.
    :returns: what goes into link.json; the keys name the units.
    :raises CommandError: if a node fails, or nothing was measured.
    """
    source = demo.open_video(arguments)
    # The workstation is on another host, as far as ROS can tell.
    os.environ.pop('ROS_LOCALHOST_ONLY', None)
    os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'SUBNET'
    # Fast DDS would try shared memory, which namespaces of one machine share.
    recording = demo.run_nodes(arguments, source, Console(), (
        'ip', 'netns', 'exec', workstation, 'env', 'FASTDDS_BUILTIN_TRANSPORTS=UDPv4'))
    status, times = recording.status, recording.times
    if len(times) < 2 or np.isnan(status.t_net):
        raise CommandError(
            f'{len(times)} masks came, and {status.updates_applied} updates, none of them with '
            f'weights: see the logs in {arguments.out}')
    key_frames = sorted(recording.key_frames)
    stamps = [times[index] for index in sorted(times)]
    fps = throughput(key_frames, times)
    return {
        'frames': source.count if source.count is not None else len(times),
        'masks': len(times),
        'key_frames': key_frames,
        'updates_applied': status.updates_applied,
        'updates_lost': status.updates_lost,
        'updates_rejected': status.updates_rejected,
        'throughput_fps': fps,
        'traffic_bit_per_s': 8 * (status.bytes_up + status.bytes_down) / len(times) * fps,
        'key_frame_ratio': len(key_frames) / len(times),
        't_frame_s': median(np.diff(stamps)),
        **{f'{name}_s': getattr(status, name) for name in ('t_si', 't_sd', 't_ti', 't_net')},
        'key_frame_bytes': status.key_frame_bytes,
        'update_bytes': status.update_bytes,
        'bytes_up': status.bytes_up,
        'bytes_down': status.bytes_down}


def throughput(key_frames: list[int], times: dict[int, float]) -> float:
    """
    Return frames a second, over whole cycles from the second key frame on where there are enough.

    On the first one everything is slow for once.

    :param key_frames: their indices.
    :param times: seconds at each frame.
    """
    first, last = (
        (key_frames[1], key_frames[-1]) if len(key_frames) > 2 else (min(times), max(times)))
    return (last - first) / (times[last] - times[first])


# --- simulated -----------------------------------------------------------------------------------

def simulate(arguments: argparse.Namespace, bandwidth: float, measured: dict) -> dict:
    """
    Simulate what was measured.

    A frame takes what it took there when the student did not wait, camera and lock-step included.

    :param arguments, bandwidth: of :func:`add_arguments`; bits a second, each way.
    :param measured: what :func:`measure` returned.
    """
    profile = Profile(
        'measured', t_si=measured['t_frame_s'], t_sd=measured['t_sd_s'], t_ti=measured['t_ti_s'],
        link=Link(bandwidth, bandwidth), key_frame_bytes=measured['key_frame_bytes'],
        update_bytes=measured['update_bytes'])
    use_threads(1)
    simulation = Simulation(
        Method('partial', client=ClientSettings(
            late_update=arguments.late_update, update_timeout=demo.UPDATE_TIMEOUT,
            stride_rate=0.0)),
        Student.load(arguments.student), profile, load_teacher(arguments.teacher))
    times = {}
    frames = demo.open_video(arguments)
    # Accuracy is not asked for here, so that the teacher is asked for key frames alone.
    height, width = next(iter(frames)).shape[:2]
    no_label = TeacherPrediction(np.zeros((height, width), np.uint8), np.zeros((0, 4), np.float32))
    simulated = simulation.run(frames, itertools.repeat(no_label))
    records = simulated.key_frames
    times = {0: 0.0, **{record.frame: record.seconds for record in records},
             simulated.frames: simulated.seconds}
    fps = throughput([record.frame for record in records], times)
    # As many updates as came there: the last one may come after the last frame.
    sent = sum(record.bytes_up for record in records) + sum(
        record.bytes_down for record in records[:measured['updates_applied']])
    return {
        'key_frames': [record.frame for record in records],
        'throughput_fps': fps,
        'traffic_bit_per_s': 8 * sent / simulated.frames * fps,
        'key_frame_ratio': len(records) / simulated.frames,
        't_net_s': profile.costs.t_net,
        # None where the model has none: where updates were lost.
        'throughput_bounds_fps': _as_list(simulated.throughput_bounds),
        'traffic_bounds_bit_per_s': _as_list(simulated.traffic_bounds)}


def _as_list(bounds: Bounds | None) -> list[float] | None:
    return bounds and [bounds.lower, bounds.upper]


# --- what a person reads -------------------------------------------------------------------------

def _rows(results: list[dict]) -> list[list[str]]:
    """Return the table of results: its head, then a row for each bandwidth."""
    head = ['link', *(f'{title}, {unit}' for _, title, unit, _ in _COLUMNS),
            *(f'kB {way}: payload, on the link' for way in ('up', 'down'))]
    rows = []
    for result in results:
        measured, simulated = result['measured'], result['simulated']
        rows.append([
            f"{result['bandwidth_bit_per_s'] / _MEGA:g} Mbit/s",
            *(f'{measured[name] / scale:.3g} / {simulated[name] / scale:.3g}'
              for name, _, _, scale in _COLUMNS),
            *(f"{measured[f'bytes_{way}'] / 1e3:,.0f}, {measured[f'link_bytes_{way}'] / 1e3:,.0f}"
              for way in ('up', 'down'))])
    return [head, *rows]


def as_markdown(results: list[dict]) -> str:
    """Return the results as a table in Markdown: measured / simulated."""
    head, *rows = _rows(results)
    return '\n'.join(f"| {' | '.join(row)} |" for row in (head, ['---'] * len(head), *rows)) + '\n'


def _print(results: list[dict], console: Console) -> None:
    head, *rows = _rows(results)
    table = Table(*head, title='measured / simulated')
    for row in rows:
        table.add_row(*row)
    console.print(table)


def plot(results: list[dict], path: Path) -> None:
    """Plot throughput, network time and traffic over the bandwidth, as a PNG."""
    plt = headless_pyplot()
    results = sorted(results, key=lambda result: result['bandwidth_bit_per_s'])
    bandwidths = [result['bandwidth_bit_per_s'] / _MEGA for result in results]
    figure, axes = plt.subplots(1, 3, figsize=(13, 4.2), layout='constrained')
    for axis, (name, title, unit, scale), bounds in zip(
            axes, _COLUMNS, ('throughput_bounds_fps', None, 'traffic_bounds_bit_per_s')):
        top = max(result[kind][name] for result in results for kind in ('measured', 'simulated'))
        if bounds and all(result['simulated'][bounds] for result in results):
            lower, upper = ([result['simulated'][bounds][side] / scale for result in results]
                            for side in (0, 1))
            top = max(top, scale * max(upper))
            axis.fill_between(
                bandwidths, lower, upper, color='0.9', label='bounds of the analytic model')
        for kind, style in (('measured', 'o-'), ('simulated', 's--')):
            axis.plot(bandwidths, [result[kind][name] / scale for result in results], style,
                      label=kind)
        axis.set(xscale='log', xlabel='bandwidth each way, Mbit/s', ylabel=f'{title}, {unit}',
                 ylim=(0, 1.15 * top / scale))
        axis.set_xticks(bandwidths, [f'{value:g}' for value in bandwidths])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0].legend(loc='best', fontsize='small')
    figure.savefig(path, dpi=110)
    plt.close(figure)
