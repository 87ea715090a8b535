"""
The access-control policy of SROS 2: who may publish, read and call what.

It holds the names that the nodes have and imports no ROS. ``ros2 security`` makes permissions of
it (docs/security.md).

Names are few, and do not grow with the fleet: when nodes meet, Fast DDS sends the permissions in a
message for which it has 8192 bytes, and where that is too little they never meet.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
import re
from xml.etree import ElementTree

#: Enclaves beside those of the robots, which have the names of their namespaces.
TEACHER, DASHBOARD, VIEWER = '/teacher', '/dashboard', '/viewer'

#: The enclave of a robot whose nodes have no namespace: '/' is of all that name none.
ROOT = '/robot'

#: Where a student's images come from by default, with student.launch.py and with robot.launch.py.
IMAGES = ('image', 'camera/image_raw')

#: What no enclave but a robot's own and the teacher's has a right to.
LOCKED = ('key_frames', 'weight_updates')

#: Of any robot with a namespace; to the rights of DDS a slash is as any other character.
_ANY = '/*'


class PolicyError(ValueError):
    """Names of which no policy can be made, in one line."""


@dataclass
class Profile:
    """
    What a node may do; names are absolute, relative to ``namespace``, or begin with ``~/``.

    :ivar publish: topics, as those to which it may :ivar:`subscribe`; ``*`` is any text.
    :ivar reply: services that it has; those that it may call are in :ivar:`request`.
    """

    namespace: str
    node: str
    publish: list[str] = field(default_factory=list)
    subscribe: list[str] = field(default_factory=list)
    reply: list[str] = field(default_factory=list)
    request: list[str] = field(default_factory=list)

    def absolute(self, name: str) -> str:
        """Return a name of this profile as an absolute one."""
        space = self.namespace.rstrip('/')
        if name.startswith('~'):
            return f'{space}/{self.node}{name[1:]}'
        return name if name.startswith('/') else f'{space}/{name}'

    def allows(self, right: str, name: str) -> bool:
        """
        Tell whether a name is allowed.

        :param right: the name of one of the lists.
        :param name: absolute.
        """
        return any(fnmatchcase(name, self.absolute(one)) for one in getattr(self, right))


def enclave_of(robot: str) -> str:
    """Return the enclave of a robot, by its namespace."""
    return f'/{robot.strip("/")}' if robot.strip('/') else ROOT


def make_policy(
        robots: Sequence[str], student: str = 'student', teacher: str = '/teacher',
        camera: str = 'camera', images: Sequence[str] = IMAGES) -> dict[str, list[Profile]]:
    """
    Make the policy of a fleet.

    :param robots: their namespaces, one at least; ``''`` is that of nodes without one.
    :param student: name of the students' nodes.
    :param teacher: name of the teacher's node, with its namespace.
    :param camera: name of the camera's node, or of the namespace that its driver is in.
    :param images: topics of the students' images, relative to the namespaces or absolute.
    :returns: the profiles by enclave: of each robot, of the teacher, of the dashboard and whoever
        else steers, and of viewers, who only read.
    :raises PolicyError: if a name is none, or two robots are one.
    """
    spaces = [_absolute('robots', f'/{name}') if name.strip('/') else '' for name in robots]
    if not spaces or len(set(spaces)) != len(spaces):
        raise PolicyError(
            f"robots are {', '.join(spaces) or 'none'}: expected namespaces that differ, such as "
            '/robot1,/robot2')
    for name in (student, camera):
        _absolute('a node', f'/{name}')
    for name in images:
        _absolute('an image', name if name.startswith('/') else f'/{name}')
    teacher_space, _, teacher_name = _absolute('the teacher', teacher).rpartition('/')

    teaching = _node(teacher_space, teacher_name)
    teaching.publish += ['~/status', '/diagnostics']
    for space in ('', _ANY):
        teaching.publish.append(f'{space}/weight_updates')
        teaching.subscribe.append(f'{space}/key_frames')
    steering, viewing = _node('', 'dashboard'), _node('', 'rosbag2_recorder')
    viewing.publish.append('/events/write_split')
    rviz = [Profile('', 'rviz', subscribe=['/tf', '/tf_static'], reply=['~/*']),
            Profile(_ANY, 'rviz', reply=['~/*'])]
    steering.request.append(teaching.absolute('~/*'))
    for reader in (steering, viewing):
        reader.subscribe += ['/diagnostics', '/rosout', teaching.absolute('~/status')]
    for space in [_ANY, *([''] if '' in spaces else [])]:
        learning = _student(space, student, images)
        for reader in (steering, viewing):
            reader.subscribe += [learning.absolute(name) for name in (
                'segmentation/*', '~/status', *_images(images))]
        steering.request.append(learning.absolute('~/*'))
    enclaves = {}
    for space in spaces:
        # What a driver publishes, and which services it has, is its own affair.
        driving = Profile(
            f'{space}/{camera}', 'driver', publish=['*'], subscribe=['*'], reply=['*'])
        enclaves[enclave_of(space)] = [
            _student(space, student, images), _camera(space, camera, images), driving]
    others = {TEACHER: [teaching], DASHBOARD: [steering], VIEWER: [viewing, *rviz]}
    if taken := set(spaces) & {*others, ROOT if '' in spaces else None}:
        raise PolicyError(
            f"a robot is named {', '.join(sorted(taken))}, as an enclave that is there for "
            f"something else: choose another namespace than {', '.join(others)}")
    policy = {**enclaves, **others}
    _check(policy, spaces)
    return policy


def as_xml(policy: dict[str, list[Profile]], origin: str) -> str:
    """
    Write a policy as the XML that ``ros2 security`` reads.

    :param origin: how it was made, for a comment, in which XML allows no ``--``.
    """
    root = ElementTree.Element('policy', version='0.2.0')
    enclaves = ElementTree.SubElement(root, 'enclaves')
    for path, profiles in policy.items():
        enclave = ElementTree.SubElement(enclaves, 'enclave', path=path)
        listed = ElementTree.SubElement(enclave, 'profiles')
        for profile in profiles:
            written = ElementTree.SubElement(
                listed, 'profile', ns=profile.namespace or '/', node=profile.node)
            for kind, right in (('topics', 'publish'), ('topics', 'subscribe'),
                                ('services', 'reply'), ('services', 'request')):
                if names := getattr(profile, right):
                    group = ElementTree.SubElement(written, kind, {right: 'ALLOW'})
                    for name in names:
                        ElementTree.SubElement(group, kind[:-1]).text = name
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding='unicode')
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<!-- {origin} -->\n{text}\n'


def _absolute(what: str, name: str) -> str:
    name = '/' + name.strip('/')
    if not re.fullmatch(r'(/[A-Za-z_]\w*)+', name, re.ASCII):
        raise PolicyError(f"{what}: '{name}' is no name of ROS: expected one such as /robot1")
    return name


def _node(space: str, name: str) -> Profile:
    """Return what every node needs."""
    return Profile(
        space, name, publish=['/rosout', '/parameter_events'],
        subscribe=['/parameter_events', '/clock'], reply=['~/*'])


def _images(images: Sequence[str]) -> list[str]:
    """Return the topics of images, compressed and calibration beside them."""
    return [topic for name in images for topic in (
        name, f'{name}/compressed', str(PurePosixPath(name).parent / 'camera_info'))]


def _student(space: str, name: str, images: Sequence[str]) -> Profile:
    profile = _node(space, name)
    profile.subscribe += ['weight_updates', *_images(images)]
    profile.publish += ['key_frames', '~/status', '/diagnostics', 'segmentation/*']
    return profile


def _camera(space: str, name: str, images: Sequence[str]) -> Profile:
    profile = _node(space, name)
    profile.publish += [topic for image in images for topic in (image, f'{image}/compressed')]
    profile.subscribe.append('segmentation/mask')
    return profile


def _check(policy: dict[str, list[Profile]], spaces: Sequence[str]) -> None:
    """Refuse names with which a wildcard of one enclave reaches what is locked of another."""
    for space in spaces:
        for path, profiles in policy.items():
            if path in (enclave_of(space), TEACHER):
                continue
            for name in (f'{space}/{topic}' for topic in LOCKED):
                if any(profile.allows(right, name) for profile in profiles
                       for right in ('publish', 'subscribe')):
                    raise PolicyError(
                        f'what {path} may do would reach {name}: choose a namespace for that '
                        'robot that lies in none of a camera or of segmentation')
