"""
Plan a deployment: bounds on throughput and traffic, waits, and the bandwidth needed.

What things take comes from a profile or from a running system; the analytic model of the paper
does the rest.
"""

import argparse
from dataclasses import asdict, replace
import json
import math
from pathlib import Path
import time

import numpy as np
from rich.console import Console
from rich.table import Table

from shadowtutor_ros.algorithms.analytic_model import (
    network_times, recommended_min_stride, throughput_bounds, traffic_bounds, waits)
from shadowtutor_ros.algorithms.fleet_model import most_robots, Service, teacher_load
from shadowtutor_ros.algorithms.striding import MAX_STRIDE, MAX_UPDATES, MIN_STRIDE
from shadowtutor_ros.commands import CommandError
from shadowtutor_ros.evaluation.plots import headless_pyplot
from shadowtutor_ros.evaluation.profile import Link, load_profile, Profile

#: Seconds in which a running system has to publish a status with all measurements.
STATUS_TIMEOUT = 15.0

_SETTINGS = {
    'min_stride': 'frames from a key frame to the next', 'max_stride': 'the same, at most',
    'max_updates': 'training steps a key frame, at most'}
_DEFAULTS = {'min_stride': MIN_STRIDE, 'max_stride': MAX_STRIDE,
             'max_updates': MAX_UPDATES}

_STATUS_TOPIC = '/student/status'
_MEGA = 1e6

# Options that replace a value of the profile: name, what it is.
_VALUES = (
    ('t_si', "seconds of the student's inference of a frame"),
    ('t_sd', 'seconds of a training step'),
    ('t_ti', "seconds of the teacher's inference of a frame"),
    ('key_frame_bytes', 'of a key frame, up'),
    ('update_bytes', 'of a weight update, down'),
    ('latency', 'seconds a message takes one way, besides its bytes'),
    ('bandwidth', 'Mbit/s, each way'),
    ('bandwidth_up', 'Mbit/s from the robot to the workstation'),
    ('bandwidth_down', 'Mbit/s back'))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the subcommand."""
    source = parser.add_mutually_exclusive_group()
    source.add_argument('--profile', default='paper', help='paper, or a JSON file')
    source.add_argument(
        '--status', nargs='?', const=_STATUS_TOPIC, default=argparse.SUPPRESS, metavar='TOPIC',
        help=f'take what a running student measures, from its status topic ({_STATUS_TOPIC})')
    values = parser.add_argument_group('values in place of those of the profile')
    for name, text in _VALUES:
        values.add_argument(
            '--' + name.replace('_', '-'), type=float, default=argparse.SUPPRESS, metavar='X',
            help=text)
    for name, text in _SETTINGS.items():
        parser.add_argument(
            '--' + name.replace('_', '-'), type=int, default=argparse.SUPPRESS, metavar='N',
            help=f"{text} (default: the paper's {_DEFAULTS[name]}, or the running system's)")
    parser.add_argument(
        '--target-fps', type=float, default=argparse.SUPPRESS, help='throughput to find the '
        'bandwidth for (default: 95 %% of what the student infers)')
    fleet = parser.add_argument_group('several robots with one teacher')
    fleet.add_argument(
        '--robots', type=int, default=argparse.SUPPRESS, metavar='N',
        help='how the teacher does with so many robots that are alike')
    fleet.add_argument(
        '--period', type=float, default=argparse.SUPPRESS, metavar='S',
        help="seconds from a robot's key frame to its next (default: MIN_STRIDE frames as fast as "
        'they are inferred, the shortest there can be)')
    fleet.add_argument(
        '--steps', type=float, default=argparse.SUPPRESS, metavar='N',
        help='training steps that a key frame takes on average (default: half of MAX_UPDATES)')
    parser.add_argument(
        '--plot', type=Path, default=argparse.SUPPRESS, metavar='PNG', help='file to write')
    parser.add_argument(
        '--json', type=Path, default=argparse.SUPPRESS, metavar='JSON', help='file to write')


def run(arguments: argparse.Namespace) -> int:
    """Print the plan, and write what was asked for; returns the exit status."""
    given = vars(arguments)
    if 'plot' in given and arguments.plot.suffix != '.png':
        raise CommandError(f"--plot '{arguments.plot}' does not end in .png")
    profile, settings = (measure(given['status']) if 'status' in given
                         else (load_profile(arguments.profile), _DEFAULTS))
    profile = _change(profile, {name: given[name] for name, _ in _VALUES if name in given})
    settings = {name: given.get(name, settings[name]) for name in _SETTINGS}
    plan = make_plan(profile, settings, given.get('target_fps', 0.95 / profile.t_si))
    if 'robots' in given:
        plan['fleet'] = plan_fleet(
            profile, settings, arguments.robots, given.get('period'), given.get('steps'))
    console = Console()
    _print(plan, profile, settings, console)
    if 'robots' in given:
        console.print(_fleet_table(plan['fleet']))
    if 'json' in given:
        arguments.json.write_text(json.dumps(plan, indent=2) + '\n')
        console.print(f'wrote {arguments.json}', highlight=False)
    if 'plot' in given:
        _plot(plan, profile, settings, arguments.plot)
        console.print(f'wrote {arguments.plot}', highlight=False)
    return 0


def make_plan(profile: Profile, settings: dict[str, int], target: float) -> dict:
    """
    Compute the plan of a deployment.

    :param profile: what things take.
    :param settings: min_stride, max_stride and max_updates.
    :param target: frames a second to find the bandwidth for, above 0.
    :returns: what goes into plan.json; the keys name the units, and None is out of reach.
    :raises ValueError: if a setting or the target is out of its range.
    """
    costs = profile.costs
    steps = {'max_updates': settings['max_updates']}
    inference = settings['min_stride'] * costs.t_si
    answers = [costs.t_net + costs.t_ti + n * costs.t_sd for n in (0, steps['max_updates'])]
    return {
        'profile': asdict(profile),
        'settings': settings,
        't_net_s': costs.t_net,
        's_net_bytes': costs.s_net,
        'throughput_fps': asdict(throughput_bounds(costs, **settings)),
        'traffic_bit_per_s': asdict(traffic_bounds(costs, **settings)),
        'throughput_without_waiting_fps': 1 / costs.t_si,
        'inference_until_min_stride_s': inference,
        'update_after_s': dict(zip(('least', 'most'), answers)),
        'wait_s': asdict(waits(costs, min_stride=settings['min_stride'], **steps)),
        'no_wait_from_bit_per_s': {
            name: _bandwidths(profile, costs.t_net + inference - answer)
            for name, answer in zip(('least', 'most'), answers)},
        'recommended_min_stride': recommended_min_stride(costs, **steps),
        'target_fps': target,
        'needed_bit_per_s': {
            name: _bandwidths(profile, t_net)
            for name, t_net in asdict(network_times(costs, target, **settings)).items()}}


def plan_fleet(
        profile: Profile, settings: dict[str, int], robots: int, period: float | None = None,
        steps: float | None = None) -> dict:
    """
    Compute how one teacher does with several robots.

    :param profile: what things take, for one of them.
    :param settings: min_stride, max_stride and max_updates.
    :param robots: 1 or more.
    :param period: seconds from a robot's key frame to its next; None: the shortest.
    :param steps: training steps a key frame on average; None: half of the most.
    :returns: what goes into plan.json; the keys name the units.
    :raises ValueError: if a number is out of its range.
    """
    costs = profile.costs
    period = settings['min_stride'] * costs.t_si if period is None else period
    service = Service.of(costs.t_ti, costs.t_sd, settings['max_updates'], steps)
    load = teacher_load(robots, service, costs.t_net, period)
    return {
        'robots': robots, 'wanted_period_s': period, 'service_s': service.mean,
        'utilisation': load.utilisation, 'waiting_s': load.waiting,
        'update_after_s': load.answer, 'period_s': load.period,
        'update_after_frames': load.answer / costs.t_si,
        'robots_in_time': most_robots(service, costs.t_net, period, period)}


def _bandwidths(profile: Profile, t_net: float | None) -> dict[str, float] | None:
    """Return the bandwidths, in the ratio of the profile's, that make t_net what is given."""
    # The latency does not shrink with the bandwidth.
    latency = 2 * profile.link.latency
    if t_net is None or t_net <= latency:
        return None
    link = profile.link.scaled((profile.costs.t_net - latency) / (t_net - latency))
    return {'up': link.bandwidth_up, 'down': link.bandwidth_down}


def _change(profile: Profile, values: dict[str, float]) -> Profile:
    """Return the profile with values given on the command line, bandwidths in Mbit/s."""
    if not values:
        return profile
    both = values.get('bandwidth')
    link = {name: value * _MEGA for name in ('bandwidth_up', 'bandwidth_down')
            if (value := values.get(name, both)) is not None}
    if 'latency' in values:
        link['latency'] = values['latency']
    own = {name: value for name, value in values.items() if hasattr(profile, name)}
    derivation = dict.fromkeys([*own, *(f'link.{name}' for name in link)], 'Given to the command.')
    return replace(
        profile, **own, name=f'{profile.name}, changed', link=replace(profile.link, **link),
        derivation={**profile.derivation, **derivation})


# --- a running system ----------------------------------------------------------------------------

def measure(topic: str) -> tuple[Profile, dict[str, int]]:
    """
    Ask a running student for a profile and for its settings.

    :param topic: its status topic.
    :returns: the profile; min_stride, max_stride and max_updates.
    :raises CommandError: if ROS is not there, or no status with all measurements comes in time.
    """
    try:
        import rclpy
        from shadowtutor_ros.msg import TutorStatus
        from shadowtutor_ros.nodes.running import qos
    except ImportError as error:
        raise CommandError(
            f'--status needs ROS 2 and the messages of this package ({error}): run make setup and '
            'use .venv/bin/shadowtutor, or source the workspace') from None
    measured = None
    missing = f"nothing came on '{topic}': is the student running, and is that its topic?"

    def on_status(status: TutorStatus) -> None:
        nonlocal measured, missing
        try:
            measured = (profile_from_status(status, topic),
                        {name: getattr(status, name) for name in _SETTINGS})
        except CommandError as error:
            missing = str(error)

    context = rclpy.Context()
    rclpy.init(context=context, args=[])
    try:
        node = rclpy.create_node('plan', context=context)
        executor = rclpy.executors.SingleThreadedExecutor(context=context)
        executor.add_node(node)
        node.create_subscription(TutorStatus, topic, on_status, **qos())
        end = time.monotonic() + STATUS_TIMEOUT
        while measured is None and time.monotonic() < end:
            executor.spin_once(timeout_sec=0.2)
        node.destroy_node()
    except rclpy.exceptions.InvalidTopicNameException as error:
        raise CommandError(f"'{topic}' is no topic: {str(error).splitlines()[0]}") from None
    finally:
        rclpy.shutdown(context=context)
    if measured is None:
        raise CommandError(f'after {STATUS_TIMEOUT:.0f} s: {missing}')
    return measured


def profile_from_status(status, topic: str) -> Profile:
    """
    Make a profile of a TutorStatus.

    :param status: of a running student.
    :param topic: that it came on, which names the profile.
    :raises CommandError: if the student has not measured everything yet.
    """
    if not math.isfinite(status.throughput_lower):
        raise CommandError(
            f"the student at '{topic}' has measured no inference yet, or no update with weights: "
            'are images and a teacher there?')
    size = status.key_frame_bytes + status.update_bytes
    # What is too short for float32, or for the clocks, must not become an endless bandwidth.
    bandwidth = 8 * size / max(status.t_net, 1e-6)
    return Profile(
        f'measured on {topic}', t_si=status.t_si, t_sd=status.t_sd, t_ti=status.t_ti,
        link=Link(bandwidth, bandwidth), key_frame_bytes=status.key_frame_bytes,
        update_bytes=status.update_bytes, derivation={
            't_si': 'Median of the last frames.',
            **dict.fromkeys(
                ('t_sd', 't_ti', 'key_frame_bytes', 'update_bytes'),
                'Median of the last key frames that were answered with weights.'),
            'link.bandwidth_up': 'Both ways as one: bytes over t_net, the round trip less what '
            "the workstation had of it, so with the robot's encoding and latency in it."})


# --- what a person reads -------------------------------------------------------------------------

def _print(plan: dict, profile: Profile, settings: dict[str, int], console: Console) -> None:
    link, costs = profile.link, profile.costs
    console.print(
        f'[bold]{profile.name}[/]: t_si {_ms(costs.t_si)}, t_sd {_ms(costs.t_sd)}, t_ti '
        f'{_ms(costs.t_ti)}, t_net {_ms(costs.t_net)}\n'
        f'{profile.key_frame_bytes / 1e3:,.0f} kB a key frame at {link.bandwidth_up / _MEGA:.4g} '
        f'Mbit/s up, {profile.update_bytes / 1e3:,.0f} kB an update at '
        f'{link.bandwidth_down / _MEGA:.4g} Mbit/s down, latency {_ms(link.latency)}',
        highlight=False)
    if not costs.t_sd and settings['max_updates']:
        console.print('[yellow]t_sd is 0 or unknown: --t-sd sets it[/]')
    if link.loss:
        console.print(f'[yellow]{link.loss:.1%} lost messages are not in the model[/]')

    console.print(
        'Strides are those of Algorithm 2: with drift or still, key frames may come sooner or '
        'later, and the bounds in the status of a running student are wider', highlight=False)
    table = Table(title='ShadowTutor plan', show_header=False)
    throughput, traffic = plan['throughput_fps'], plan['traffic_bit_per_s']
    after, wait = plan['update_after_s'], plan['wait_s']
    steps, min_stride = settings['max_updates'], settings['min_stride']
    table.add_row(
        'throughput', f"{throughput['lower']:.2f} to {throughput['upper']:.2f} frames/s",
        'lower and upper bound, with late_update: wait')
    table.add_row(
        '', f"{plan['throughput_without_waiting_fps']:.2f} frames/s", 'with late_update: continue')
    table.add_row(
        'traffic, up and down',
        f"{traffic['lower'] / _MEGA:.2f} to {traffic['upper'] / _MEGA:.2f} Mbit/s",
        'lower and upper bound', end_section=True)
    table.add_row(
        'MIN_STRIDE frames', _ms(plan['inference_until_min_stride_s']), f'{min_stride} · t_si')
    table.add_row(
        'an update comes after', f"{_ms(after['least'])} to {_ms(after['most'])}",
        f't_net + t_ti, without and with {steps} · t_sd')
    table.add_row(
        'wait at MIN_STRIDE', f"{_ms(wait['least'])} to {_ms(wait['most'])}"
        if wait['most'] else 'none', 'as much as the update comes later' if wait['most'] else
        f'even after {steps} steps')
    no_wait = plan['no_wait_from_bit_per_s']
    table.add_row('no wait from', _mbit(no_wait['least']), 'if no step is needed')
    table.add_row('', _mbit(no_wait['most']), f'even after {steps} steps')
    recommended = plan['recommended_min_stride']
    table.add_row(
        'recommended MIN_STRIDE', str(recommended), 'smallest without a wait, even after '
        f'{steps} steps' if recommended <= settings['max_stride'] else
        f"[red]above MAX_STRIDE {settings['max_stride']}: the network or the workstation is too "
        'slow[/]', end_section=True)
    needed = plan['needed_bit_per_s']
    for name, text in (
            ('possible', 'at best: the upper bound reaches it'),
            ('sustained',
             f'even if key frames are {min_stride} frames apart and take {steps} steps each'),
            ('guaranteed', 'the lower bound reaches it: nothing overlaps')):
        table.add_row(
            f"{plan['target_fps']:.2f} frames/s need" if name == 'possible' else '',
            _mbit(needed[name]), text)
    console.print(table)


def _fleet_table(fleet: dict) -> Table:
    table = Table(title=f"{fleet['robots']} robots and one teacher", show_header=False)
    overloaded = fleet['period_s'] > 1.01 * fleet['wanted_period_s']
    table.add_row(
        'the teacher is at work', f"{fleet['utilisation']:.0%} of the time",
        f"{_ms(fleet['service_s'])} a key frame, one every {_ms(fleet['wanted_period_s'])} from "
        'each robot')
    table.add_row('a key frame waits', _ms(fleet['waiting_s']), 'for those of other robots')
    table.add_row(
        'an update comes after', _ms(fleet['update_after_s']),
        f"{fleet['update_after_frames']:.0f} frames of the robot")
    table.add_row(
        'a key frame comes every', _ms(fleet['period_s']),
        '[red]since its answer takes so long: the teacher is overloaded[/]' if overloaded
        else 'as it wants')
    table.add_row(
        'robots it can serve', f"{fleet['robots_in_time']}",
        'with updates before their next key frame')
    return table


def _ms(seconds: float) -> str:
    return f'{1e3 * seconds:,.0f} ms'


def _mbit(bandwidths: dict[str, float] | None) -> str:
    if bandwidths is None:
        return 'out of reach'
    up, down = (f'{bandwidths[way] / _MEGA:.3g}' for way in ('up', 'down'))
    return f'{up} Mbit/s' if up == down else f'{up} Mbit/s up, {down} down'


def _plot(plan: dict, profile: Profile, settings: dict[str, int], path: Path) -> None:
    """Plot the bounds over the bandwidth, with the point of operation, as a PNG."""
    plt = headless_pyplot()
    here = profile.link.bandwidth_up / _MEGA
    bandwidths = np.geomspace(min(1, here / 2), max(100, here * 1.5), 300)
    costs = [replace(profile, link=profile.link.scaled(value / here)).costs
             for value in bandwidths]
    figure, axes = plt.subplots(2, 1, sharex=True, figsize=(9, 8), layout='constrained')
    figure.suptitle(
        f"{profile.name}: strides {settings['min_stride']} to {settings['max_stride']}, up to "
        f"{settings['max_updates']} steps")
    for axis, bounds, unit, label, now, color in (
            (axes[0], throughput_bounds, 1, 'throughput, frames/s', plan['throughput_fps'],
             'tab:blue'),
            (axes[1], traffic_bounds, _MEGA, 'traffic up and down, Mbit/s',
             plan['traffic_bit_per_s'], 'tab:purple')):
        curves = [bounds(cost, **settings) for cost in costs]
        lower, upper = ([getattr(curve, side) / unit for curve in curves]
                        for side in ('lower', 'upper'))
        axis.fill_between(bandwidths, lower, upper, color=color, alpha=0.2)
        axis.plot(bandwidths, upper, color=color, label='upper bound')
        axis.plot(bandwidths, lower, color=color, linestyle='--', label='lower bound')
        axis.axvline(here, color='0.3', linewidth=1, label=f'here: {here:.3g} Mbit/s')
        # Where the curves, which rise, leave room for the numbers.
        for side, offset, across, along in (
                ('lower', (6, -5), 'left', 'top'), ('upper', (-6, 5), 'right', 'bottom')):
            value = now[side] / unit
            axis.plot(here, value, 'o', color=color)
            axis.annotate(
                f'{value:.2f}', (here, value), offset, textcoords='offset points',
                horizontalalignment=across, verticalalignment=along)
        axis.set(ylabel=label, ylim=(0, 1.12 * max(upper)), xscale='log')
        axis.grid(alpha=0.3, which='both')
    axes[0].axhline(
        plan['target_fps'], color='tab:green', linewidth=1,
        label=f"target: {plan['target_fps']:.2f} frames/s")
    no_wait = plan['no_wait_from_bit_per_s']
    for axis in axes:
        for name, style, text in (
                ('least', ':', 'no step needed'),
                ('most', '-.', f"{settings['max_updates']} steps taken")):
            if no_wait[name]:
                axis.axvline(
                    no_wait[name]['up'] / _MEGA, color='tab:red', linewidth=1, linestyle=style,
                    label=f'no wait from this on, {text}')
        axis.legend(
            loc='lower right' if axis is axes[0] else 'upper left', fontsize='small', framealpha=1)
    ratio = profile.link.bandwidth_down / profile.link.bandwidth_up
    axes[1].set(
        xlabel='bandwidth each way, Mbit/s' if ratio == 1 else
        f'bandwidth up, Mbit/s (down: {ratio:.3g} times as much)',
        xlim=(bandwidths[0], bandwidths[-1]))
    axes[1].xaxis.set_major_formatter('{x:g}')
    figure.savefig(path, dpi=110)
    plt.close(figure)
