"""Faults tried one after another, those that are wired alike on the same processes."""

from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
import itertools
from multiprocessing import get_context
import os
from pathlib import Path
import signal
from typing import Callable, Iterable, Iterator

from shadowtutor_ros.nodes.processes import end, keep_local, ProcessError
from shadowtutor_ros.reliability.faults import Fault, FAULTS
from shadowtutor_ros.reliability.rig import Rig
from shadowtutor_ros.reliability.trial import Result, try_fault
from shadowtutor_ros.reliability.veth import enter, VethError, VethLink


def try_faults(
        names: Iterable[str], out: Path, on_fault: Callable[[Fault], None]) -> Iterator[Result]:
    """
    Try faults by their names.

    :param out: folder for the logs.
    :param on_fault: is told which fault comes next.
    :returns: yields a result a fault, in the order of :data:`FAULTS`.
    """
    wanted = set(names)
    faults = [fault for fault in FAULTS.values() if fault.name in wanted]
    for wiring, group in itertools.groupby(faults, lambda fault: fault.wiring):
        if wiring == 'link':
            yield from _over_a_link(list(group), out, on_fault)
        else:
            keep_local()
            yield from _on_rigs(wiring, group, out, on_fault)


def _on_rigs(
        wiring: str, faults: Iterable[Fault], out: Path, on_fault: Callable[[Fault], None],
        link: VethLink | None = None) -> Iterator[Result]:
    """Try faults on one rig, and on a new one after each that failed."""
    with ExitStack() as stack:
        rig = None
        for fault in faults:
            on_fault(fault)
            try:
                rig = rig or stack.enter_context(Rig(out / fault.name, wiring, link))
            except ProcessError as error:
                yield Result(fault.name, fault.text, wrong=[str(error)])
                continue
            result = try_fault(fault, rig)
            if result.failed:
                stack.pop_all().close()
                rig = None
            yield result


def _over_a_link(
        faults: list[Fault], out: Path, on_fault: Callable[[Fault], None]) -> Iterator[Result]:
    """Try faults in a process of its own, since a network namespace is entered for good."""
    try:
        with VethLink() as link, ProcessPoolExecutor(
                1, get_context('spawn'), _enter, (link.robot,)) as robot:
            for fault in faults:
                on_fault(fault)
                yield robot.submit(_over_the_link, fault.name, out, link).result()
    except VethError as error:
        for fault in faults:
            yield Result(fault.name, fault.text, skipped=str(error))


def _enter(namespace: str) -> None:
    signal.signal(signal.SIGTERM, end)
    # The workstation is on another host, as far as ROS can tell.
    os.environ.pop('ROS_LOCALHOST_ONLY', None)
    os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'SUBNET'
    enter(namespace)


def _over_the_link(name: str, out: Path, link: VethLink) -> Result:
    return next(_on_rigs('link', [FAULTS[name]], out, lambda fault: None, link))
