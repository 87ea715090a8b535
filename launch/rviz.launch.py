"""Launch rviz2, to look at what the student of a namespace sees."""

from shadowtutor_ros.launching.arguments import RVIZ_ALONE
from shadowtutor_ros.launching.nodes import describe, end, rviz


def generate_launch_description():
    """Declare the arguments and launch rviz2."""
    return describe(RVIZ_ALONE, lambda context, values: rviz(context, values, on_exit=end))
