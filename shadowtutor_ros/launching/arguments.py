"""The arguments of the launch files: their names, texts and types, and how they are read."""

from dataclasses import dataclass, replace
import difflib
import os
from pathlib import Path
from typing import Iterable

import yaml

from shadowtutor_ros.algorithms.presets import PRESETS

Value = bool | int | float | str | list[str]

#: Packages of camera drivers, and what they call their executables.
DRIVERS = {'v4l2_camera': 'v4l2_camera_node', 'usb_cam': 'usb_cam_node_exe'}

_WRITTEN = {
    int: 'an integer, such as 8', float: 'a number, such as 7.5', bool: 'true or false',
    list: "a list of one or more, such as \"['a', 'b']\""}
_BOOL = {'true': True, '1': True, 'false': False, '0': False}


class ArgumentError(ValueError):
    """An argument with a wrong value."""


@dataclass(frozen=True)
class Argument:
    """
    An argument of a launch file.

    :ivar name: as it stands before ``:=``.
    :ivar text: what it is, for ``--show-args``.
    :ivar kind: the type of its value; ``Path`` is a str with the home folder put in for ``~``.
    :ivar default: as a user would write it; empty: nothing is given.
    :ivar choices: what alone may be written.
    :ivar unions: of a list, whether entries may be unions such as ``auto: car, bus``.
    """

    name: str
    text: str
    kind: type = str
    default: str = ''
    choices: tuple[str, ...] = ()
    unions: bool = False

    def read(self, text: str) -> Value | None:
        """
        Return the value that is written; None for an empty one.

        :raises ArgumentError: if it is none of this kind.
        """
        text = text.strip()
        if not text:
            return None
        try:
            return self._read(text)
        except (ValueError, KeyError, yaml.YAMLError):
            raise ArgumentError(
                f"{self.name} is '{text}': expected {_WRITTEN[self.kind]}") from None

    def _read(self, text: str) -> Value:
        if self.kind is bool:
            return _BOOL[text.lower()]
        if self.kind is int:
            number = float(text)
            if not number.is_integer():
                raise ValueError
            return int(number)
        if self.kind is list:
            return self._entries(text)
        return os.path.expanduser(text) if self.kind is Path else self.kind(text)

    def _entries(self, text: str) -> list[str]:
        """Return a list that is written in YAML, or with separators as commands take classes."""
        if text.startswith('['):
            entries = yaml.safe_load(text)
        else:
            semicolons = ';' in text or self.unions and ':' in text
            entries = [part.strip() for part in text.split(';' if semicolons else ',')]
        if not entries or not all(isinstance(entry, str) for entry in entries):
            raise ValueError
        return entries


def unknown(given: Iterable[str], table: Iterable[Argument]) -> list[str]:
    """Return what is to be said of names that no argument has."""
    names = [argument.name for argument in table]
    sentences = []
    for name in given:
        if name not in names:
            near = difflib.get_close_matches(name, names, 2)
            sentences.append(
                f"there is no argument '{name}', so it has no effect"
                + (f"; did you mean {' or '.join(near)}?" if near else '')
                + ' (--show-args lists the arguments; parameters that are none of them go into '
                'params_file)')
    return sentences


_AS_IN_FILE = '; empty: as in params_file'

NAMESPACE = Argument('namespace', 'Namespace of the nodes, one a robot.')
STUDENT_NAME = Argument('student_name', 'Name of the student node.', default='student')
TEACHER_NAME = Argument('teacher_name', 'Name of the teacher node.', default='teacher')
CAMERA_NAME = Argument('camera_name', 'Name of the camera node.', default='camera')
THREADS = Argument(
    'threads', 'Threads that PyTorch computes with on the CPU, fewer where nodes share a '
    f'computer; 0: its own choice{_AS_IN_FILE}.', int)
WEIGHTS = Argument(
    'weights', 'Weights of the student, a .safetensors or .pth file, the same on robot and '
    f'workstation{_AS_IN_FILE}.', Path)
USE_SIM_TIME = Argument(
    'use_sim_time', f"'true' takes the time from /clock{_AS_IN_FILE}.", bool)
LOG_LEVEL = Argument(
    'log_level', 'Least severity that is logged.', default='info',
    choices=('debug', 'info', 'warn', 'error', 'fatal'))
ENCLAVE = Argument(
    'enclave', 'Security enclave of SROS 2 that the nodes are in, such as /robot1; empty: that of '
    'the environment, if any.')
USE_RESPAWN = Argument(
    'use_respawn', "'true' starts a node again after it has failed.", bool, 'false')
IMAGE_TOPIC = Argument(
    'image_topic', "The camera's topic, relative to the namespace or absolute; with "
    "image_transport 'compressed' it is <image_topic>/compressed.", default='image')
RVIZ = Argument(
    'rviz', "'true' shows camera, colour mask and overlay in rviz2.", bool, 'false')
RVIZ_CONFIG = Argument(
    'rviz_config', 'Layout of rviz2, best with relative topics, which follow the namespace; '
    'empty: config/shadowtutor.rviz.', Path)


def _params_file(name: str, default: str, node: str) -> Argument:
    return Argument(
        name, f'YAML file with the parameters of {node}; empty: {default}.', Path)


PRESET = Argument(
    'preset', "'thin' for a slow link, 'rich' for a good one and a teacher with a GPU; it wins "
    'over params_file. The same on robot and workstation.', choices=('', *PRESETS))

_SEEN = (
    Argument(
        'classes', "What is to be seen: \"['forklift', 'pallet', 'auto: car, bus']\", or "
        f"'forklift; pallet; auto: car, bus'{_AS_IN_FILE}, else the classes of the weights.",
        list, unions=True),
    Argument(
        'classes_file', f"Instead of classes: a YAML file, 'lvs' or 'coco'{_AS_IN_FILE}.", Path))
_IMAGES = (
    Argument(
        'image_transport', f"'raw' or 'compressed' images{_AS_IN_FILE}.",
        choices=('', 'raw', 'compressed')),
    Argument(
        'image_reliability', "'automatic': reliable where all publishers of the images offer it, "
        f"else best effort; 'reliable' or 'best_effort' asks for that alone{_AS_IN_FILE}, else "
        'automatic.', choices=('', 'automatic', 'reliable', 'best_effort')))
_STUDENT = (
    *_IMAGES, *_SEEN,
    Argument(
        'resume', "'true': it keeps its weights, and goes on with them when it is started again"
        f'{_AS_IN_FILE}.', bool))
_TAUGHT = (
    Argument(
        'teacher', "A torchvision network, the path of an ONNX file, 'hf:<id or folder>', "
        f"'scene', or 'package.module:Class'{_AS_IN_FILE}."),
    Argument(
        'teacher_weights', "A file of weights, or 'DEFAULT' for torchvision's download"
        f'{_AS_IN_FILE}.', Path))
_TAIL = (USE_SIM_TIME, LOG_LEVEL, USE_RESPAWN)
_SECURED_TAIL = (ENCLAVE, *_TAIL)

STUDENT = (
    NAMESPACE, STUDENT_NAME, IMAGE_TOPIC, *_STUDENT, THREADS, WEIGHTS,
    _params_file('params_file', 'config/student.yaml', 'the node'), PRESET, *_SECURED_TAIL)

TEACHER = (
    NAMESPACE, TEACHER_NAME,
    Argument(
        'robots', 'Namespaces of the robots whose key frames are answered: '
        f"\"['/robot1', '/robot2']\" or '/robot1, /robot2'; 'auto': all there are{_AS_IN_FILE}.",
        list),
    *_TAUGHT,
    Argument(
        'workers', "Who labels and trains: 'local', the node; 'ray', a Ray cluster"
        f'{_AS_IN_FILE}.', choices=('', 'local', 'ray')),
    THREADS, WEIGHTS,
    _params_file('params_file', 'config/teacher.yaml', 'the node'), PRESET, *_SECURED_TAIL)

_DRIVER = (
    Argument(
        'driver', "The camera's driver: the package v4l2_camera or usb_cam; 'camera_node': the "
        "one of this package; 'none': it runs already.", default='v4l2_camera',
        choices=(*DRIVERS, 'camera_node', 'none')),
    Argument(
        'video_device', 'The V4L2 device; with camera_node also a video file, a folder of images, '
        "a bag or 'scene'.", Path, '/dev/video0'),
    Argument('width', "Of the images, in pixels; empty: the driver's choice.", int),
    Argument('height', "Of the images, in pixels; empty: the driver's choice.", int),
    Argument('rate', "Images a second; empty: the driver's choice.", float),
    Argument('frame_id', 'Of the images; empty: the name of the camera.'),
    Argument(
        'camera_info_url', 'Its calibration, such as file:///home/robot/camera.yaml; empty: '
        'none.'),
    replace(
        CAMERA_NAME, text='Name of the camera: its topics are <camera_name>/image_raw and '
        '<camera_name>/camera_info, and its driver is a node below it.'),
    _params_file('camera_params_file', 'none', 'the driver'))
_ROBOT = (
    STUDENT_NAME,
    replace(IMAGE_TOPIC, default='', text=IMAGE_TOPIC.text[:-1]
            + '; empty: <camera_name>/image_raw.'),
    *_STUDENT, THREADS, WEIGHTS,
    _params_file('params_file', 'config/student.yaml', 'the student'), PRESET)

ROBOT = (NAMESPACE, *_DRIVER, *_ROBOT, RVIZ, RVIZ_CONFIG, *_SECURED_TAIL)


def _for_robots(argument: Argument) -> Argument:
    """Return an argument of robot.launch.py as robots.launch.py has it."""
    changes = {
        'namespace': {'text': 'Namespace that the robots are in.'},
        'enclave': {'name': 'enclaves', 'kind': bool, 'default': 'false', 'text': "'true': each "
                    'robot is in the security enclave of SROS 2 that is named as its namespace, '
                    'the teacher in /teacher.'},
        'driver': {'default': 'none'},
        'video_device': {'kind': list, 'text': argument.text[:-1] + '; one for all, or a list '
                         'with one for each.'},
        'frame_id': {'kind': list, 'text': 'Of the images, one for all, or a list with one for '
                     'each; empty: <robot>/<camera_name>.'},
        'camera_info_url': {'kind': list, 'text': argument.text[:-1] + '; one for all, or a list '
                            'with one for each.'},
        'threads': {'text': 'Threads that PyTorch computes with on the CPU, for each node; empty: '
                    'the cores are shared out.'},
        'rviz': {'text': argument.text[:-1] + ', one window for each robot.'}}
    return replace(argument, **changes.get(argument.name, {}))


ROBOTS = (
    Argument(
        'robots', "Their namespaces: \"['robot1', 'robot2']\" or 'robot1, robot2'.", list,
        'robot1, robot2'),
    Argument(
        'use_teacher', "'false': the teacher runs elsewhere, with robots:=… of "
        'teacher.launch.py.', bool, 'true'),
    TEACHER_NAME, *_TAUGHT,
    _params_file('teacher_params_file', 'config/teacher.yaml', 'the teacher'),
    *map(_for_robots, ROBOT))

DEMO = (
    NAMESPACE,
    Argument(
        'source', "A video file, a folder of images, a bag, a V4L2 device ('/dev/video0'), or "
        "'scene', which is built in.", Path, 'scene'),
    Argument(
        'rate', "Frames a second; -1: the source's own; 0: the next frame comes when the last "
        'has its mask, so that none is dropped.', float, '0'),
    Argument(
        'width', f"Of the images, in pixels; 0: the source's own{_AS_IN_FILE}.", int),
    Argument(
        'height', f"Of the images, in pixels; 0: the source's own{_AS_IN_FILE}.", int),
    Argument(
        'frames', 'Stop after this many; 0: at the end of the source, and the scene has none'
        f'{_AS_IN_FILE}.', int),
    Argument('loop', f"'true' starts again at the end of the source{_AS_IN_FILE}.", bool),
    replace(_TAUGHT[0], text=_TAUGHT[0].text.replace(
        'empty: as', "empty: 'scene' for the scene, else as")),
    _TAUGHT[1], *_SEEN, _IMAGES[0],
    replace(THREADS, text='Threads that PyTorch computes with on the CPU, for the student and '
            'for the teacher each; empty: half of the cores.'),
    WEIGHTS, CAMERA_NAME, STUDENT_NAME, TEACHER_NAME,
    Argument('params_file', 'One YAML file with the parameters of all three nodes, in sections '
             'with their names; empty: the files in config/.', Path), PRESET,
    replace(RVIZ, text=RVIZ.text[:-1] + '; the demo ends with its window.'), RVIZ_CONFIG,
    *_TAIL)

RVIZ_ALONE = (NAMESPACE, IMAGE_TOPIC, RVIZ_CONFIG, ENCLAVE, LOG_LEVEL)

#: The arguments by launch file.
TABLES = {
    'student': STUDENT, 'teacher': TEACHER, 'robot': ROBOT, 'robots': ROBOTS, 'demo': DEMO,
    'rviz': RVIZ_ALONE}
