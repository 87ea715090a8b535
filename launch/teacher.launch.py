"""Launch the teacher node on a workstation."""

from shadowtutor_ros.launching.arguments import TEACHER
from shadowtutor_ros.launching.nodes import describe, teacher


def generate_launch_description():
    """Declare the arguments and launch the node."""
    return describe(TEACHER, teacher)
