"""What the nodes share: how they start and end, their quality of service, their weights."""

from pathlib import Path
import sys
from typing import Callable

import rclpy
from rclpy.duration import Duration
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
import torch

from shadowtutor_ros.models.student import Student

#: The weights that the package ships.
SHIPPED_WEIGHTS = Path(__file__).parents[1] / 'weights' / 'student.safetensors'


class StartError(ValueError):
    """What keeps a node from starting, in one line."""


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


def load_student(path: str) -> Student:
    """
    Load the student that the parameter ``weights`` names.

    :param path: a file; empty for the weights that the package ships.
    :raises WeightsError: if they do not fit.
    """
    return Student.load(path or SHIPPED_WEIGHTS)


def choose_device(name: str) -> str:
    """
    Turn the parameter ``device`` into a device of PyTorch.

    :raises StartError: if it is not there.
    """
    if name == 'auto':
        return 'cuda' if torch.cuda.is_available() else 'cpu'
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition('\n')[0]
        raise StartError(
            f"device '{name}' cannot be used ({reason}): choose 'cpu', 'cuda' or 'auto'") from None
    return name


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
