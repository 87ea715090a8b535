"""Launch several robots, or several cameras of one, on one machine, with a teacher for all."""

from shadowtutor_ros.launching.arguments import ROBOTS
from shadowtutor_ros.launching.nodes import describe, robots


def generate_launch_description():
    """Declare the arguments and launch the nodes."""
    return describe(ROBOTS, robots)
