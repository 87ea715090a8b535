"""Starts the nodes' processes, so that Ctrl-C ends them while their libraries are imported too."""

from importlib import import_module
import signal


def _start(name: str) -> int:
    """
    Import a node and run it.

    PyTorch, OpenCV and rclpy take seconds to import. KeyboardInterrupt would end them with a
    traceback, or be lost within them; the system ends the process at once.
    """
    # Where it is ignored, as in the background of a shell script, it stays so.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    return import_module(f'shadowtutor_ros.nodes.{name}').main()


def student_node() -> int:
    """Run the student node's process; returns the exit status."""
    return _start('student_node')


def teacher_node() -> int:
    """Run the teacher node's process; returns the exit status."""
    return _start('teacher_node')


def camera_node() -> int:
    """Run the camera node's process; returns the exit status."""
    return _start('camera_node')
