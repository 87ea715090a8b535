"""Launch camera, student and teacher on one machine; by default with the built-in scene."""

import os

from shadowtutor_ros.launching.arguments import DEMO
from shadowtutor_ros.launching.nodes import camera, describe, end, rviz, student, teacher


def generate_launch_description():
    """Declare the arguments and launch the nodes."""
    return describe(DEMO, demo)


def demo(context, values):
    """Return the nodes; the demo ends with its camera or with rviz2."""
    values = {
        # Large images over best effort get lost even on one machine.
        'image_topic': 'image', 'image_reliability': 'reliable',
        # It is for itself: no other robots in this network, and nothing to go on from.
        'robots': [''], 'state_folder': '', **values,
        'threads': max(1, (os.cpu_count() or 2) // 2)
        if values['threads'] is None else values['threads']}
    # The scene is taught by its own ground truth.
    if values['source'] == 'scene' and not values['teacher']:
        values['teacher'] = 'scene'
    return [
        *teacher(context, values), *student(context, values),
        *camera(context, values, on_exit=end, respawn=False),
        *(rviz(context, values, on_exit=end) if values['rviz'] else [])]
