"""
The parameters of the nodes: one table each makes the declaration, the YAML file and the docs.

``python -m shadowtutor_ros.nodes.parameters`` writes config/*.yaml and docs/parameters.md anew.
"""

from dataclasses import dataclass
import json
from pathlib import Path
import textwrap
from typing import Callable

from rcl_interfaces.msg import (
    FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult)
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node

from shadowtutor_ros.algorithms.client import (
    ClientSettings, LATE_UPDATE, LONGEST_TIMEOUT, PATIENCE)
from shadowtutor_ros.algorithms.server import ServerSettings
from shadowtutor_ros.algorithms.student_training import REPLAY_CHOICES
from shadowtutor_ros.evaluation.scenes import LOOKS
from shadowtutor_ros.models.inference import PRECISIONS
from shadowtutor_ros.models.student import BLOCKS
from shadowtutor_ros.wire.encodings import ENCODINGS
from shadowtutor_ros.wire.key_frame import DEFAULT_FORMAT, DEFAULT_QUALITY, FORMATS

_ORIGIN = 'Made by `python -m shadowtutor_ros.nodes.parameters` from the tables in that file.'

Value = bool | int | float | str | list[str]


@dataclass(frozen=True)
class Parameter:
    """
    A parameter of a node.

    :ivar name: as ``ros2 param`` sees it.
    :ivar default: its type is the type of the parameter.
    :ivar text: what it is, with the unit.
    :ivar range: the lowest and the highest value of a number.
    :ivar choices: the values that a string may have.
    :ivar read_only: whether it is fixed at the start.
    """

    name: str
    default: Value
    text: str
    range: tuple[float, float] | None = None
    choices: tuple[str, ...] = ()
    read_only: bool = False

    @property
    def type_name(self) -> str:
        """Its type, as the documentation of ROS 2 calls it."""
        if isinstance(self.default, list):
            return 'string array'
        return {bool: 'bool', int: 'integer', float: 'double', str: 'string'}[type(self.default)]

    def fault(self, value: Value) -> str | None:
        """Say what is wrong with a value that has the right type; None if nothing is."""
        if self.choices and value not in self.choices:
            return f"{self.name} is '{value}': expected one of {', '.join(self.choices)}"
        if self.range and not self.range[0] <= value <= self.range[1]:
            return (f'{self.name} is {value}: expected {self.type_name} from {self.range[0]} to '
                    f'{self.range[1]}')
        return None


_CLIENT, _SERVER = ClientSettings(), ServerSettings()
_DEVICE = Parameter(
    'device', 'auto', "where PyTorch computes: 'cpu', 'cuda', 'cuda:1', or 'auto' for CUDA where "
    'there is one', read_only=True)
_THREADS = Parameter(
    'threads', 0, 'CPU threads for PyTorch; 0: its own choice, one per core. Where nodes share a '
    'computer, give each fewer: otherwise they slow one another down', (0, 256),
    read_only=True)
_WEIGHTS = Parameter(
    'weights', '', "file with the student's initial weights, .safetensors or .pth; empty: those "
    'in this package. Must be the same on robot and workstation', read_only=True)

STUDENT = (
    Parameter(
        'min_stride', _CLIENT.min_stride, 'MIN_STRIDE: smallest number of frames from one key '
        'frame to the next', (1, 10000)),
    Parameter(
        'max_stride', _CLIENT.max_stride, 'MAX_STRIDE: largest number of frames from one key '
        'frame to the next', (1, 10000)),
    Parameter(
        'late_update', _CLIENT.late_update, 'what to do if the update has not arrived min_stride '
        "frames after its key frame: 'continue' with the current weights, or 'wait' for it, as in "
        'the paper',
        choices=LATE_UPDATE),
    Parameter(
        'update_timeout', _CLIENT.update_timeout, 'seconds after which an update counts as lost; '
        "late_update 'wait' waits no longer. For a teacher that is known to need longer it is up "
        f'to {PATIENCE} times as long', (0.1, LONGEST_TIMEOUT)),
    Parameter(
        'stride_rate', _CLIENT.stride_rate, 'above 0: strides count time, at this many frames '
        "a second, whatever the camera's rate; 0: they count frames", (0.0, 1000.0)),
    Parameter(
        'drift', _CLIENT.drift, 'change of the scene since the last key frame above which the '
        'next one is sent early; no change is 0, another scene about 1. Set to 0: never',
        (0.0, 10.0)),
    Parameter(
        'still', _CLIENT.still, 'change of the scene below which it counts as still; if the '
        'student is good enough, the next key frame then waits for still_stride, or for whoever '
        'enters (0.5 % of the frame, for half a second); 0: never, and nobody looks for them',
        (0.0, 10.0)),
    Parameter(
        'still_stride', _CLIENT.still_stride, 'frames between the key frames of a still scene',
        (1, 1000000)),
    Parameter(
        'image_transport', 'raw', "'raw' subscribes to image, 'compressed' to image/compressed",
        choices=('raw', 'compressed'), read_only=True),
    Parameter('key_frame.format', DEFAULT_FORMAT, 'image format of key frames', choices=FORMATS),
    Parameter(
        'key_frame.quality', DEFAULT_QUALITY, 'quality of JPEG and WebP key frames', (1, 100)),
    Parameter(
        'key_frame.max_width', 0, 'largest width of key frames in pixels; wider ones are scaled '
        'down; 0: no limit', (0, 7680)),
    Parameter(
        'inference.precision', 'exact', "'exact': float32; 'fast': half precision where the "
        'device is faster with it', choices=PRECISIONS, read_only=True),
    Parameter(
        'inference.width', 0, 'largest width for inference in pixels; wider frames are scaled '
        'down, and the mask up again; 0: no limit', (0, 7680)),
    _DEVICE,
    _THREADS,
    _WEIGHTS,
    Parameter(
        'overlay_opacity', 0.5, 'opacity of the colours on segmentation/overlay; 0: image alone, '
        '1: colours alone', (0.0, 1.0)),
    Parameter('status_period', 1.0, 'seconds between messages on ~/status', (0.1, 60.0), (), True),
)

TEACHER = (
    Parameter(
        'threshold', _SERVER.threshold, 'THRESHOLD: mean IoU above which the student is good '
        'enough', (0.01, 0.99)),
    Parameter(
        'max_updates', _SERVER.max_updates, 'MAX_UPDATES: training steps on one key frame, at '
        'most', (0, 1000)),
    Parameter('learning_rate', _SERVER.learning_rate, 'learning rate of Adam', (1e-6, 1.0)),
    Parameter(
        'scope', _SERVER.scope, "what is trained and sent: 'partial', the paper's part of the "
        "decoder; 'decoder', all of it; 'full', the whole student; or blocks separated by commas, "
        f"of {', '.join(BLOCKS)}"),
    Parameter(
        'replay', _SERVER.replay, 'number of earlier key frames that each training step also '
        'uses', (0, 100)),
    Parameter(
        'replay_choice', _SERVER.replay_choice, "which earlier key frames are used: 'random', "
        "drawn anew at every step, or 'newest'", choices=REPLAY_CHOICES),
    Parameter(
        'replay_memory', _SERVER.replay_memory, 'number of key frames kept per robot; one of '
        '1280x720 takes 6 MB', (1, 1000)),
    Parameter(
        'replay_megabytes', _SERVER.replay_megabytes, 'memory that they may take per robot; the '
        'oldest are forgotten first', (1.0, 1e6)),
    Parameter(
        'seen_classes', _SERVER.seen_classes, 'true: the student may only choose classes that '
        'occur in the key frames kept, and those of always_offered; as long as the teacher '
        'answers'),
    Parameter(
        'always_offered', list(_SERVER.always_offered) or [''], 'names of classes that the '
        "student may choose in any case; ['']: none"),
    Parameter(
        'object_weight', _SERVER.object_weight, 'weight of the loss inside the boxes of objects; '
        '1 elsewhere', (1.0, 100.0)),
    Parameter(
        'encoding', _SERVER.encoding, "how weights are sent: 'fp32' and 'fp16' as values; 'int8', "
        "'int4' and 'sparse' as compressed differences ('sparse' trains and sends a tenth of "
        'them)',
        choices=tuple(ENCODINGS)),
    Parameter(
        'teacher', 'maskrcnn_resnet50_fpn', 'a torchvision network, the path of an ONNX file, '
        "'scene', or 'package.module:Class'", read_only=True),
    Parameter(
        'teacher_weights', 'DEFAULT', "file with the teacher's weights; 'DEFAULT': torchvision "
        'downloads its own',
        read_only=True),
    _DEVICE,
    _THREADS,
    _WEIGHTS,
    Parameter(
        'robots', [''], 'namespaces of the robots whose key frames are answered, such as '
        "['/robot1', '/robot2']; '' is the namespace of this node", read_only=True),
)

CAMERA = (
    Parameter(
        'source', 'scene', "a video file, a folder of images, a V4L2 device ('/dev/video0'), or "
        "'scene'", read_only=True),
    Parameter(
        'rate', -1.0, "frames a second; -1: the source's own; 0: lock-step, the next frame is "
        'published when the mask of the last has come', (-1.0, 1000.0), (), True),
    Parameter('loop', False, 'start again at the end of the source', read_only=True),
    Parameter(
        'width', 0, "width of the images in pixels; 0: the source's own", (0, 7680), (), True),
    Parameter(
        'height', 0, "height of the images in pixels; 0: the source's own", (0, 7680), (), True),
    Parameter(
        'frames', 0, 'stop after this many frames; 0: at the end of the source; the scene and a '
        'camera have none', (0, 2**31 - 1), (), True),
    Parameter('frame_id', 'camera', 'frame_id in the headers', read_only=True),
    Parameter('scene.seed', 0, 'seed of the built-in scene', (0, 65535), (), True),
    Parameter(
        'scene.look', 'day', 'light and weather of the built-in scene', choices=LOOKS,
        read_only=True),
    Parameter(
        'jpeg_quality', 90, 'JPEG quality of image/compressed, which is published while somebody '
        'subscribes', (1, 100)),
)

TABLES = {'student': STUDENT, 'teacher': TEACHER, 'camera': CAMERA}


class ParameterError(ValueError):
    """A parameter with a wrong type or value, or one that another contradicts."""


class Parameters:
    """
    The declared parameters of a node, with values that are always valid together.

    :param node: declares them, with ranges and descriptions.
    :param table: of the node.
    :param fault: looks at all values together and says what is wrong, None if nothing is.
    :param apply: is handed all values at the start and after every change.
    :raises ParameterError: if a value given at the start is wrong.
    """

    def __init__(
            self, node: Node, table: tuple[Parameter, ...],
            fault: Callable[[dict[str, Value]], str | None] = lambda values: None,
            apply: Callable[[dict[str, Value]], None] = lambda values: None):
        self._table = {parameter.name: parameter for parameter in table}
        self._fault = fault
        self._apply = apply
        self.values = {parameter.name: _declare(node, parameter) for parameter in table}
        problem = self._problem(self.values)
        if problem:
            raise ParameterError(problem)
        apply(self.values)
        # A callback that validates should have no effect, but Humble has no callback for after
        # the set; there the only callback that validates is this one, so what it accepts is set.
        self._has_post_set = hasattr(node, 'add_post_set_parameters_callback')
        node.add_on_set_parameters_callback(self._validate)
        if self._has_post_set:
            node.add_post_set_parameters_callback(self._accept)

    def __getitem__(self, name: str) -> Value:
        return self.values[name]

    def _problem(self, values: dict[str, Value]) -> str | None:
        problems = [parameter.fault(values[name]) for name, parameter in self._table.items()]
        return next(filter(None, problems), None) or self._fault(values)

    def _changed(self, parameters: list) -> dict[str, Value]:
        changes = {p.name: p.value for p in parameters if p.name in self._table}
        return {**self.values, **changes}

    def _validate(self, parameters: list) -> SetParametersResult:
        for parameter in parameters:
            declared = self._table.get(parameter.name)
            if declared and type(parameter.value) is not type(declared.default):
                # rclpy itself would refuse it too, after this callback.
                return SetParametersResult(successful=False, reason=(
                    f'{parameter.name} is {parameter.value!r}: expected {declared.type_name} '
                    '(an integer is written 8, a double 8.0)'))
        problem = self._problem(self._changed(parameters))
        if problem:
            return SetParametersResult(successful=False, reason=problem)
        if not self._has_post_set:
            self._accept(parameters)
        return SetParametersResult(successful=True)

    def _accept(self, parameters: list) -> None:
        self.values = self._changed(parameters)
        self._apply(self.values)


def _declare(node: Node, parameter: Parameter) -> Value:
    descriptor = ParameterDescriptor(
        description=parameter.text, read_only=parameter.read_only,
        additional_constraints=(
            f"one of {', '.join(parameter.choices)}" if parameter.choices else ''))
    if parameter.range and isinstance(parameter.default, int):
        low, high = map(int, parameter.range)
        descriptor.integer_range = [IntegerRange(from_value=low, to_value=high, step=1)]
    elif parameter.range:
        low, high = map(float, parameter.range)
        descriptor.floating_point_range = [FloatingPointRange(from_value=low, to_value=high)]
    try:
        return node.declare_parameter(parameter.name, parameter.default, descriptor).value
    except (InvalidParameterTypeException, InvalidParameterValueException) as error:
        raise ParameterError(
            f'{error}; {parameter.name} is: {parameter.text}, {parameter.type_name}'
            f'{_limits(parameter)} (an integer is written 8, a double 8.0)') from None


def _limits(parameter: Parameter) -> str:
    if parameter.choices:
        return f": {', '.join(parameter.choices)}"
    if parameter.range:
        return ' from {} to {}'.format(*parameter.range)
    return ''


def _yaml(value: Value) -> str:
    # JSON's flow style is YAML too, and quotes every string.
    return json.dumps(value)


def as_yaml(table: tuple[Parameter, ...]) -> str:
    """Write a parameter file: every parameter at its default, with its description."""
    lines = [f'# {_ORIGIN}', '/**:', '  ros__parameters:']
    group = ''
    for parameter in table:
        prefix, _, name = parameter.name.rpartition('.')
        if prefix and prefix != group:
            lines.append(f'    {prefix}:')
        group = prefix
        indent = '      ' if prefix else '    '
        lines.extend(f'{indent}# {line}' for line in textwrap.wrap(
            f'{parameter.text} ({parameter.type_name}{_limits(parameter)})', 90))
        lines.append(f'{indent}{name}: {_yaml(parameter.default)}')
    return '\n'.join(lines) + '\n'


def as_markdown() -> str:
    """Write the documentation of all parameters."""
    lines = [f'<!-- {_ORIGIN} -->', '', '# Parameters', '']
    lines += textwrap.wrap(
        'Those not marked *fixed* can be changed while the node runs, with `ros2 param set`. '
        'Besides these, the quality of service of the topics in the tables of the README, but for '
        '`/diagnostics`, can be overridden with the standard `qos_overrides` parameters.', 99)
    for name, table in TABLES.items():
        lines += ['', f'## {name}_node', '']
        lines += ['| parameter | default | what it is |', '|---|---|---|']
        for parameter in table:
            fixed = ' *fixed*' if parameter.read_only else ''
            limits = f'; {parameter.type_name}{_limits(parameter)}'
            text = (parameter.text + limits).replace('|', '\\|')
            lines.append(f'| `{parameter.name}`{fixed} | `{_yaml(parameter.default)}` | {text} |')
    return '\n'.join(lines) + '\n'


def files() -> dict[str, str]:
    """Return what is made from the tables: the contents by path in the repository."""
    made = {f'config/{name}.yaml': as_yaml(table) for name, table in TABLES.items()}
    return {**made, 'docs/parameters.md': as_markdown()}


if __name__ == '__main__':
    for path, text in files().items():
        (Path(__file__).parents[2] / path).write_text(text)
