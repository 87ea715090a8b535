"""What the nodes share: how they start and end, and their quality of service."""

from pathlib import Path
import sys
from typing import Callable

import rclpy
from rclpy.duration import Duration
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions


class Finished(Exception):
    """Raised in a callback by a node that has done all that it had to do."""


def qos(reliability: ReliabilityPolicy = ReliabilityPolicy.RELIABLE, **policies) -> QoSProfile:
    """Return a profile that keeps the newest message alone: older ones are of no use here."""
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST, depth=1, reliability=reliability,
        durability=DurabilityPolicy.VOLATILE, **policies)


def overridable() -> QoSOverridingOptions:
    """Return what lets a topic's quality of service be overridden by parameters."""
    return QoSOverridingOptions.with_default_policies()


def seconds(duration: float) -> Duration:
    """Return a duration of so many seconds."""
    return Duration(nanoseconds=int(duration * 1e9))


def run(make_node: Callable[[], Node], args: list[str] | None) -> int:
    """
    Run a node until it is told to stop.

    :param make_node: makes the node; a ValueError or OSError says in one line why it cannot.
    :param args: of the command line.
    :returns: the exit status.
    """
    rclpy.init(args=args)
    node = None
    try:
        node = make_node()
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException, Finished):
        pass
    except (ValueError, OSError) as error:
        if node is not None:
            raise
        print(f'{Path(sys.argv[0]).name}: {error}', file=sys.stderr)
        return 1
    finally:
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
    return getattr(node, 'exit_status', 0)
