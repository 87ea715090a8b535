"""What the nodes share: how they start and end, and their quality of service."""

import os
from pathlib import Path
import shutil
import signal
import sys
import threading
from typing import Any, Callable

import rclpy
from rclpy.clock import Clock, ClockType
from rclpy.duration import Duration
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions

#: Bytes of shared memory to be free at least: each process takes 32 MiB of it.
_SHARED_MEMORY = 2 ** 28


class Finished(Exception):
    """Raised in a callback by a node that has done all that it had to do."""


class Observer:
    """
    A node in a context of its own, which a thread spins from ``with`` to its end.

    :param name: of the node and of the thread.
    :param namespace: of the node.
    """

    def __init__(self, name: str, namespace: str):
        self._context = rclpy.Context()
        rclpy.init(context=self._context, args=[])
        self._node = Node(name, namespace=namespace, context=self._context)
        self._thread = threading.Thread(target=self._spin, name=name, daemon=True)

    def __enter__(self) -> 'Observer':
        self._thread.start()
        return self

    def __exit__(self, *exception) -> None:
        rclpy.shutdown(context=self._context)
        self._thread.join()
        self._node.destroy_node()

    def _spin(self) -> None:
        executor = SingleThreadedExecutor(context=self._context)
        executor.add_node(self._node)
        try:
            executor.spin()
        except ExternalShutdownException:
            pass


def qos(
        reliability: ReliabilityPolicy = ReliabilityPolicy.RELIABLE, depth: int = 1,
        **policies) -> dict[str, Any]:
    """
    Return the quality of service of one publisher or subscription, as arguments that make it.

    Parameters can override it. rclpy writes what they say into the profile: each topic needs one
    of its own.

    :param depth: messages that are kept: the newest alone, where older ones are of no use.
    :param policies: further ones of the profile.
    """
    profile = QoSProfile(
        history=HistoryPolicy.KEEP_LAST, depth=depth, reliability=reliability,
        durability=DurabilityPolicy.VOLATILE, **policies)
    return {'qos_profile': profile,
            'qos_overriding_options': QoSOverridingOptions.with_default_policies()}


def steady_clock() -> Clock:
    """Return a clock for timers that go on where the ROS clock stands, as without a /clock."""
    return Clock(clock_type=ClockType.STEADY_TIME)


def seconds(duration: float) -> Duration:
    """Return a duration of so many seconds."""
    return Duration(nanoseconds=int(duration * 1e9))


def large_shared_memory() -> None:
    """
    Let Fast DDS pass whole images within this machine, in processes started from here on.

    Nothing is done where Fast DDS was set up otherwise, or where there is little shared memory, as
    in a container by default; other middleware takes no notice.
    """
    variable = ('FASTRTPS_DEFAULT_PROFILES_FILE' if os.environ.get('ROS_DISTRO')
                in ('humble', 'iron', 'jazzy') else 'FASTDDS_DEFAULT_PROFILES_FILE')
    set_up = {variable, 'FASTDDS_BUILTIN_TRANSPORTS'} & os.environ.keys()
    # Humble puts its own transports beside those of a file.
    if set_up or os.environ.get('ROS_LOCALHOST_ONLY') == '1':
        return
    try:
        if shutil.disk_usage('/dev/shm').free > _SHARED_MEMORY:
            os.environ[variable] = str(Path(__file__).with_name('fastdds.xml'))
    except OSError:  # there is none
        pass


def run(make_node: Callable[[], Node], args: list[str] | None) -> int:
    """
    Run a node until it is told to stop.

    :param make_node: makes the node; a ValueError or OSError says in one line why it cannot.
    :param args: of the command line.
    :returns: the exit status.
    """
    node, initialized = None, False
    large_shared_memory()
    try:
        rclpy.init(args=args)
        initialized = True
        node = make_node()
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        # Not rclpy.spin(), which misses a signal now and then where nothing else wakes it.
        while rclpy.ok():
            executor.spin_once(timeout_sec=1.0)
    except (KeyboardInterrupt, ExternalShutdownException, Finished):
        pass
    except (ValueError, OSError, RuntimeError) as error:
        # rclpy's own errors are RuntimeErrors; a Ctrl-C while the node is made looks like one.
        interrupted = initialized and not rclpy.ok()
        if node is not None and not interrupted:
            raise
        if not interrupted:
            print(f'{Path(sys.argv[0]).name}: {str(error).strip()}', file=sys.stderr)
            return 1
    finally:
        # Ctrl-C reaches a launched node twice, from the terminal and from ros2 launch; the second
        # must not break off the end.
        signal.signal(signal.SIGINT, lambda number, frame: None)
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    return getattr(node, 'exit_status', 0)
