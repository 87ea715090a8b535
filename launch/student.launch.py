"""Launch the student node on a robot."""

from shadowtutor_ros.launching.arguments import STUDENT
from shadowtutor_ros.launching.nodes import describe, student


def generate_launch_description():
    """Declare the arguments and launch the node."""
    return describe(STUDENT, student)
