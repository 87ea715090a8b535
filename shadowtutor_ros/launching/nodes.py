"""The nodes that the launch files launch, and how a launch file is made of arguments and nodes."""

from fractions import Fraction
from glob import glob
import os
from pathlib import Path
from typing import Any, Callable, List

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, GroupAction, OpaqueFunction, Shutdown
from launch.events.process import ProcessExited
from launch.logging import get_logger
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare
from launch_ros.utilities import make_namespace_absolute, prefix_namespace

from shadowtutor_ros.launching.arguments import Argument, ArgumentError, DRIVERS, unknown
from shadowtutor_ros.nodes.access_policy import enclave_of, TEACHER
from shadowtutor_ros.nodes.running import shared_memory_environment

Values = dict[str, Any]
Launched = list[Node]


def describe(
        table: tuple[Argument, ...],
        launched: Callable[[LaunchContext, Values], Launched]) -> LaunchDescription:
    """
    Return what a launch file does: it declares the arguments, reads them and launches nodes.

    All are read before the first node starts: launch would leave that one behind. They hold in
    this file alone, so that the next file that is included has its own defaults.

    :param launched: is handed the values by name, None where nothing is given.
    """
    def warn(context: LaunchContext) -> None:
        given = [text.partition(':=')[0] for text in context.argv if ':=' in text]
        # In a file that includes this one they can be its own.
        if set(context.launch_configurations) <= set(given):
            for sentence in unknown(given, table):
                get_logger('launch').warning(sentence)

    def launch(context: LaunchContext) -> Launched:
        values = {argument.name: argument.read(context.launch_configurations[argument.name])
                  for argument in table}
        return launched(context, values)

    return LaunchDescription([GroupAction([
        OpaqueFunction(function=warn),
        *(DeclareLaunchArgument(
            argument.name, default_value=argument.default, description=argument.text,
            choices=list(argument.choices) or None) for argument in table),
        OpaqueFunction(function=launch)])])


def student(context: LaunchContext, values: Values) -> Launched:
    """Return the student node."""
    topic = values['image_topic']
    parameters = _given(values, (
        'image_transport', 'classes', 'classes_file', 'resume', 'threads', 'weights',
        'use_sim_time'))
    if values['image_reliability']:
        namespace = prefix_namespace(
            context.launch_configurations.get('ros_namespace'), values['namespace'] or '')
        name = make_namespace_absolute(prefix_namespace(namespace, topic))
        parameters['qos_overrides'] = {
            images: {'subscription': {'reliability': values['image_reliability']}}
            for images in (name, f'{name}/compressed')}
    return [_node(
        'student_node', values['student_name'], values,
        [*_files(values, 'student.yaml'), parameters],
        remappings=[('image', topic)])]


def teacher(context: LaunchContext, values: Values) -> Launched:
    """Return the teacher node."""
    return [_node(
        'teacher_node', values['teacher_name'], values,
        [*_files(values, 'teacher.yaml'),
         _given(values, (
             'robots', 'state_folder', 'teacher', 'teacher_weights', 'workers', 'threads',
             'weights', 'use_sim_time'))])]


def camera(context: LaunchContext, values: Values, **options) -> Launched:
    """Return the camera node of this package; options are those of a launched node."""
    return [_node(
        'camera_node', values['camera_name'], values,
        [_file(values, 'params_file', 'camera.yaml'),
         _given(values, (
             'source', 'rate', 'width', 'height', 'frames', 'loop', 'frame_id', 'use_sim_time'))],
        **options)]


def robot(context: LaunchContext, values: Values) -> Launched:
    """Return a robot: the driver of its camera, its student, and rviz2 if it is wanted."""
    images = f"{values['camera_name']}/image_raw"
    values = {**values, 'image_topic': values['image_topic'] or images}
    if values['rviz'] and values['enclave']:
        raise ArgumentError(
            "rviz2 is not allowed in a robot's enclave: leave rviz out, and start rviz.launch.py "
            'with one that only reads, such as enclave:=/viewer')
    launched = [*_driver(context, values, images), *student(context, values)]
    return launched + (rviz(context, values) if values['rviz'] else [])


def robots(context: LaunchContext, values: Values) -> Launched:
    """Return several robots, and one teacher for all."""
    names = values['robots']
    if not names:
        raise ArgumentError("robots is empty: expected namespaces, such as 'robot1, robot2'")
    devices, frames, calibrations = (
        _for_each(values, name) for name in ('video_device', 'frame_id', 'camera_info_url'))
    nodes = len(names) + bool(values['use_teacher'])
    if values['threads'] is None:
        values = {**values, 'threads': max(1, (os.cpu_count() or 1) // nodes)}
    launched = []
    if values['use_teacher']:
        launched += teacher(context, {
            **values, 'params_file': values['teacher_params_file'],
            'enclave': TEACHER if values['enclaves'] else None})
    for index, name in enumerate(names):
        frame_id = frames[index] or f"{name.strip('/')}/{values['camera_name']}"
        namespace = prefix_namespace(values['namespace'] or '', name)
        launched += robot(context, {
            **values, 'namespace': namespace,
            'enclave': enclave_of(namespace) if values['enclaves'] else None,
            'video_device': devices[index], 'frame_id': frame_id,
            'camera_info_url': calibrations[index]})
    return launched


def rviz(context: LaunchContext, values: Values, **options) -> Launched:
    """Return rviz2 with the namespace and the images of a student."""
    _require(context, 'rviz2', 'rviz')
    topic = values['image_topic']
    return [Node(
        package='rviz2', executable='rviz2', output='screen',
        namespace=values['namespace'] or '', remappings=[
            ('image', topic), ('image/compressed', f'{topic}/compressed')],
        arguments=['-d', _file(values, 'rviz_config', 'shadowtutor.rviz')],
        ros_arguments=_ros_arguments(values), **options)]


def fail(event: ProcessExited, context: LaunchContext) -> None:
    """Let the launch fail when a node does, whose own words stand above."""
    if event.returncode and not context.is_shutdown:
        raise RuntimeError(f'{event.process_name} failed with exit code {event.returncode}')


def end(event: ProcessExited, context: LaunchContext) -> Shutdown:
    """Let the launch end with a node, and fail if it did."""
    fail(event, context)
    return Shutdown(reason=f'{event.process_name} has ended')


def _driver(context: LaunchContext, values: Values, images: str) -> Launched:
    """Return the driver of a camera, which publishes on the topic of the images."""
    package, device = values['driver'], values['video_device']
    if package == 'none':
        return []
    values = {**values, 'frame_id': values['frame_id'] or values['camera_name']}
    if package == 'camera_node':
        if values['camera_info_url']:
            raise ArgumentError(
                f"camera_info_url needs driver:={' or '.join(DRIVERS)}: camera_node has no "
                'camera_info')
        return camera(context, {
            **values, 'source': device, 'frames': None, 'loop': None,
            'params_file': values['camera_params_file']}, remappings=[('image', images)])
    _require(context, package, f'driver:={package}')
    if not os.path.exists(device or ''):
        others = ', '.join(sorted(glob('/dev/video*'))) or 'none'
        raise ArgumentError(f"video_device '{device}' is not there; there are: {others}")
    file = [_file(values, 'camera_params_file', '')] if values['camera_params_file'] else []
    namespace = prefix_namespace(values['namespace'] or '', values['camera_name'])
    return [_node(
        DRIVERS[package], package, {**values, 'namespace': namespace},
        [*file, _driver_parameters(values)], package=package,
        additional_env=shared_memory_environment(),
        # Drivers can end without a failure where the device is none.
        on_exit=None if values['use_respawn'] else end)]


def _driver_parameters(values: Values) -> dict[str, Any]:
    """Return what is given as the parameters of v4l2_camera or usb_cam, which differ."""
    width, height, rate = (values[name] for name in ('width', 'height', 'rate'))
    for name in ('width', 'height', 'rate'):
        if values[name] is not None and values[name] <= 0:
            raise ArgumentError(f'{name} is {values[name]}: expected more than 0')
    if (width is None) != (height is None):
        raise ArgumentError('width and height are given together or not at all')
    parameters = _given(values, ('video_device', 'camera_info_url', 'frame_id', 'use_sim_time'))
    if values['driver'] == 'usb_cam':
        if width:
            parameters.update(image_width=width, image_height=height)
        if rate:
            parameters['framerate'] = rate
        return parameters
    parameters['camera_frame_id'] = parameters.pop('frame_id')
    if width:
        parameters['image_size'] = [width, height]
    if rate:  # as the seconds of a frame
        period = Fraction(1 / rate).limit_denominator(10000)
        parameters['time_per_frame'] = [period.numerator, period.denominator]
    return parameters


def _node(
        executable: str, name: str, values: Values, parameters: list,
        package: str = 'shadowtutor_ros', **options) -> Node:
    """Return a node with what all have; the launch fails with it where it is not respawned."""
    respawn = bool(values['use_respawn'])
    return Node(
        # With a name, so that what is given here wins over a section of that name in the file.
        package=package, executable=executable, name=name, output='screen',
        namespace=values['namespace'] or '', parameters=parameters,
        ros_arguments=_ros_arguments(values),
        **{'respawn': respawn, 'respawn_delay': 2.0, 'on_exit': None if respawn else fail,
           **options})


def _ros_arguments(values: Values) -> list[str]:
    enclave = values.get('enclave')
    return ['--log-level', values['log_level'], *(['--enclave', enclave] if enclave else [])]


def _given(values: Values, names: tuple[str, ...]) -> dict[str, Any]:
    """Return the parameters that are given, where they override those of the file."""
    given = {name: values[name] for name in names if values.get(name) is not None}
    # launch would read a plain string as YAML.
    return {name: ParameterValue(value, value_type=str) if isinstance(value, str) else
            ParameterValue(value, value_type=List[str]) if isinstance(value, list) else value
            for name, value in given.items()}


def _files(values: Values, default: str) -> list[str]:
    """Return the paths of the parameter file and of the preset's, if that has one."""
    files = [_file(values, 'params_file', default)]
    if values['preset']:
        # One that changes nothing of a node has no file for it.
        files += filter(os.path.isfile, [_config('presets', values['preset'], default)])
    return files


def _config(*parts: str) -> str:
    """Return the path of a file in config/."""
    return str(Path(FindPackageShare('shadowtutor_ros').find('shadowtutor_ros'), 'config', *parts))


def _file(values: Values, name: str, default: str) -> str:
    """Return the path of a file that is given, else of one in config/."""
    if not values[name]:
        return _config(default)
    if not os.path.isfile(values[name]):
        raise ArgumentError(f"{name} '{values[name]}' is not a file")
    return values[name]


def _for_each(values: Values, name: str) -> list:
    """Return one value for each robot of what is given once for all, or once for each."""
    given, count = values[name] or [None], len(values['robots'])
    if len(given) not in (1, count):
        raise ArgumentError(
            f'{name} has {len(given)} entries: expected one, or one for each of the {count} '
            'robots')
    return given if len(given) == count else given * count


def _require(context: LaunchContext, package: str, reason: str) -> None:
    try:
        FindPackageShare(package).perform(context)
    except KeyError:  # ament's PackageNotFoundError is one
        distribution = os.environ.get('ROS_DISTRO', '$ROS_DISTRO')
        raise ArgumentError(
            f'{reason} needs the package {package}, which is not installed: sudo apt install '
            f"ros-{distribution}-{package.replace('_', '-')}") from None
