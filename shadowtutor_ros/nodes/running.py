"""What the nodes share: how they start and end, and their quality of service."""

import faulthandler
import os
from pathlib import Path
import shutil
import signal
import sys
import threading
import time
from types import FrameType
from typing import Any, Callable, Iterable, Sequence

import rclpy
from rclpy.clock import Clock, ClockType
from rclpy.duration import Duration
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions

#: Bytes of shared memory to be free at least: each process takes 32 MiB of it.
_SHARED_MEMORY = 2 ** 28

#: Seconds that a node waits for its own threads when it ends.
JOIN_TIMEOUT = 1.0

#: Seconds that a process has from being told to end to its end; four times as many where a call
#: hangs that lets no other Python code run, as middleware may.
END_TIMEOUT = 2.0


class Finished(Exception):
    """Raised in a callback by a node that has done all that it had to do."""


class Observer:
    """
    A node in a context of its own, which a thread spins from ``with`` to its end.

    :param name: of the node and of the thread.
    :param namespace: of the node.
    :param args: for ROS, from the command line.
    """

    def __init__(self, name: str, namespace: str, args: Sequence[str] = ()):
        self._context = rclpy.Context()
        rclpy.init(context=self._context, args=list(args))
        self._node = Node(name, namespace=namespace, context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._thread = threading.Thread(target=self._spin, name=name, daemon=True)

    def __enter__(self) -> 'Observer':
        self._thread.start()
        return self

    def __exit__(self, *exception) -> None:
        rclpy.shutdown(context=self._context)
        self._thread.join()
        self._node.destroy_node()

    def _spin(self) -> None:
        try:
            self._executor.spin()
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
    :param policies: further ones of the profile; durability is volatile where it is not given.
    """
    profile = QoSProfile(**{
        'history': HistoryPolicy.KEEP_LAST, 'depth': depth, 'reliability': reliability,
        'durability': DurabilityPolicy.VOLATILE, **policies})
    return {'qos_profile': profile,
            'qos_overriding_options': QoSOverridingOptions.with_default_policies()}


def steady_clock() -> Clock:
    """Return a clock for timers that go on where the ROS clock stands, as without a /clock."""
    return Clock(clock_type=ClockType.STEADY_TIME)


def seconds(duration: float) -> Duration:
    """Return a duration of so many seconds."""
    return Duration(nanoseconds=int(duration * 1e9))


def large_shared_memory() -> None:
    """Let Fast DDS pass whole images within this machine, in processes started from here on."""
    os.environ.update(shared_memory_environment())


def shared_memory_environment() -> dict[str, str]:
    """
    Return the environment with which Fast DDS passes whole images within this machine.

    It is empty where Fast DDS was set up otherwise, or where there is little shared memory, as in
    a container by default; other middleware takes no notice.
    """
    variable = ('FASTRTPS_DEFAULT_PROFILES_FILE' if os.environ.get('ROS_DISTRO')
                in ('humble', 'iron', 'jazzy') else 'FASTDDS_DEFAULT_PROFILES_FILE')
    set_up = {variable, 'FASTDDS_BUILTIN_TRANSPORTS'} & os.environ.keys()
    # Humble puts its own transports beside those of a file.
    if set_up or os.environ.get('ROS_LOCALHOST_ONLY') == '1':
        return {}
    try:
        if shutil.disk_usage('/dev/shm').free > _SHARED_MEMORY:
            return {variable: str(Path(__file__).with_name('fastdds.xml'))}
    except OSError:  # there is none
        pass
    return {}


def join(threads: Iterable[threading.Thread]) -> None:
    """
    Wait for threads that were told to end, together no longer than :data:`JOIN_TIMEOUT`.

    One that goes on, in a call of a teacher's network say, ends with the process.
    """
    end = time.monotonic() + JOIN_TIMEOUT
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))


def fail(node: Node, reason: str) -> None:
    """
    Let :func:`run` end a node's process with exit status 1; may be called by any thread.

    :param reason: what has happened, for the log.
    """
    node.get_logger().fatal(f'{reason}; the node ends, and use_respawn:=true starts it again')
    node.exit_status = 1


class _End:
    """
    The end of a node's process: what asks for it, and the time that it may take.

    While a node is made a signal raises KeyboardInterrupt, since nobody looks for it then; later
    it is only noted. rclpy's own handlers, which shut the context down, call these.

    :ivar making: whether a node is being made.
    :ivar initialized: whether rclpy is.
    :ivar status: the exit status.
    """

    def __init__(self) -> None:
        self.making = self.initialized = False
        self.status = 0
        self._told = False
        self._done = threading.Event()
        self._before = set(threading.enumerate())
        self._watch = threading.Thread(target=self._bound, name='end', daemon=True)

    @property
    def told(self) -> bool:
        """Whether the process is to end."""
        # While the main thread is in a long call, rclpy alone notes a signal.
        return self._told or self.initialized and not rclpy.ok()

    def begin(self) -> None:
        """Begin the end, whatever has asked for it."""
        self.making, self._told = False, True
        # Its watch needs no interpreter lock, holds to the last of the interpreter's own end, and
        # tells where that hangs.
        faulthandler.dump_traceback_later(4 * END_TIMEOUT, exit=True)

    def __enter__(self) -> '_End':
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._note)
        sys.unraisablehook = _unraisable
        self._watch.start()
        return self

    def __exit__(self, *exception) -> None:
        # Ctrl-C reaches a launched node twice, from the terminal and from ros2 launch; the second
        # must not break off the interpreter's end.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        self._done.set()
        self._watch.join()
        if set(threading.enumerate()) - self._before:
            # The interpreter would wait for such threads, or end below them.
            if self.initialized:
                rclpy.get_default_context().destroy()
            self._end_now()

    def _note(self, number: int, frame: FrameType | None) -> None:
        making = self.making
        self.begin()
        if making:
            raise KeyboardInterrupt

    def _bound(self) -> None:
        while not self._done.wait(0.1):
            if self.told:
                if not self._done.wait(END_TIMEOUT):
                    self._end_now()
                return

    def _end_now(self) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(self.status)


def _unraisable(unraisable) -> None:
    """Keep quiet about a Ctrl-C that fell into a finaliser, as imports have many."""
    if unraisable.exc_type is not KeyboardInterrupt:
        sys.__unraisablehook__(unraisable)


def run(make_node: Callable[[], Node], args: list[str] | None) -> int:
    """
    Run a node until it is told to stop, or has an ``exit_status`` other than 0.

    Once it is told to, the process ends within four times :data:`END_TIMEOUT`, whatever hangs.

    :param make_node: makes the node; a ValueError or OSError says in one line why it cannot.
    :param args: of the command line.
    :returns: the exit status.
    """
    node = None
    large_shared_memory()
    with _End() as end:
        try:
            end.making = True
            rclpy.init(args=args)
            end.initialized = True
            node = make_node()
            end.making = False
            executor = SingleThreadedExecutor()
            executor.add_node(node)
            # Not rclpy.spin(), which misses a signal now and then where nothing else wakes it.
            while not end.told and not getattr(node, 'exit_status', 0):
                executor.spin_once(timeout_sec=1.0)
        except (KeyboardInterrupt, ExternalShutdownException, Finished):
            pass
        except Exception as error:
            # rclpy's own errors are RuntimeErrors; a Ctrl-C while the node is made looks like any.
            if not end.told:
                end.status = 1
                if node is not None or not isinstance(error, (ValueError, OSError, RuntimeError)):
                    raise
                print(f'{Path(sys.argv[0]).name}: {str(error).strip()}', file=sys.stderr)
        finally:
            end.begin()
            if node is not None:
                end.status = end.status or getattr(node, 'exit_status', 0)
                node.destroy_node()
            rclpy.try_shutdown()
    return end.status
