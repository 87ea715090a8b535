"""
Write the access-control policy of a fleet for SROS 2, of which `ros2 security` makes permissions.

Each robot has the enclave that is named as its namespace; the teacher has /teacher, who steers
/dashboard, and who only reads /viewer.
"""

import argparse
from pathlib import Path

from shadowtutor_ros.files import replacing
from shadowtutor_ros.nodes.access_policy import (
    as_xml, DASHBOARD, IMAGES, make_policy, TEACHER, VIEWER)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the subcommand."""
    parser.add_argument(
        '--robots', type=_names, required=True, metavar='NAMESPACE,…',
        help="namespaces of the robots, such as /robot1,/robot2; '' for nodes without one")
    parser.add_argument(
        '--out', type=Path, default=Path('policy.xml'), metavar='FILE.xml', help='file to write')
    parser.add_argument(
        '--student-name', default='student', help='name of the student nodes')
    parser.add_argument(
        '--teacher-name', default='/teacher', help='name of the teacher node, with its namespace')
    parser.add_argument(
        '--camera-name', default='camera',
        help="name of the cameras, as robot.launch.py's camera_name")
    parser.add_argument(
        '--images', type=_names, default=','.join(IMAGES), metavar='TOPIC,…',
        help='topics of the images, relative to the namespaces or absolute')


def run(arguments: argparse.Namespace) -> int:
    """Write the policy; returns the exit status."""
    policy = make_policy(
        arguments.robots, arguments.student_name, arguments.teacher_name,
        arguments.camera_name, arguments.images)
    robots = [enclave for enclave in policy if enclave not in (TEACHER, DASHBOARD, VIEWER)]
    origin = f"Made by `shadowtutor security` for {', '.join(robots)}."
    with replacing(arguments.out) as new:
        new.write_text(as_xml(policy, origin))
    print(f"wrote {arguments.out}: enclaves {', '.join(policy)}")
    return 0


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(',')]
