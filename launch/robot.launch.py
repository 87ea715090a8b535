"""Launch a robot: the driver of its camera, and the student node."""

from shadowtutor_ros.launching.arguments import ROBOT
from shadowtutor_ros.launching.nodes import describe, robot


def generate_launch_description():
    """Declare the arguments and launch the nodes."""
    return describe(ROBOT, robot)
