"""Launch camera, student and teacher on one machine; by default with the built-in scene."""

import os

from launch import LaunchDescription
from launch.actions import (
    DeclareLaunchArgument, GroupAction, IncludeLaunchDescription, OpaqueFunction,
    SetLaunchConfiguration, Shutdown)
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

# Arguments that are parameters of the camera too: where given, they override the parameter file.
PARAMETERS = {
    'source': str, 'rate': float, 'width': int, 'height': int, 'frames': int, 'loop': bool,
    'use_sim_time': bool}


def generate_launch_description():
    """Declare the arguments and launch the nodes."""
    share = FindPackageShare('shadowtutor_ros')
    return LaunchDescription([
        DeclareLaunchArgument(
            'source', default_value='scene',
            description="A video file, a folder of images, a V4L2 device ('/dev/video0'), or "
            "'scene', which is built in."),
        DeclareLaunchArgument(
            'rate', default_value='0.0',
            description="Frames a second; -1: the source's own; 0: the next frame comes when the "
            'last has its mask, so that none is dropped.'),
        DeclareLaunchArgument(
            'width', default_value='',
            description="Of the images, in pixels; 0: the source's own; empty: as in "
            'params_file.'),
        DeclareLaunchArgument(
            'height', default_value='',
            description="Of the images, in pixels; 0: the source's own; empty: as in "
            'params_file.'),
        DeclareLaunchArgument(
            'frames', default_value='',
            description='Stop after this many; 0: at the end of the source, and the scene has '
            'none; empty: as in params_file.'),
        DeclareLaunchArgument(
            'loop', default_value='',
            description="'true' starts again at the end of the source; empty: as in "
            'params_file.'),
        DeclareLaunchArgument(
            'teacher', default_value='',
            description="A torchvision network, the path of an ONNX file, 'hf:<id or folder>', "
            "'scene', or 'package.module:Class'; empty: 'scene' for the scene, else as in "
            'params_file.'),
        DeclareLaunchArgument(
            'threads', default_value=str(max(1, (os.cpu_count() or 2) // 2)),
            description='Threads that PyTorch computes with on the CPU, for the student and for '
            'the teacher each; half of the cores by default.'),
        DeclareLaunchArgument(
            'rviz', default_value='false',
            description="'true' shows camera, colour mask and overlay in rviz2; the demo ends "
            'with its window.'),
        DeclareLaunchArgument('namespace', default_value='', description='Namespace of all.'),
        DeclareLaunchArgument(
            'use_sim_time', default_value='',
            description="'true' takes the time from /clock; empty: as in params_file."),
        DeclareLaunchArgument(
            'log_level', default_value='info',
            description='Least severity that is logged: debug, info, warn, error or fatal.'),
        # Nothing that can be wrong may come after the first node: launch would leave that behind.
        OpaqueFunction(function=check),
        GroupAction([IncludeLaunchDescription(
            PathJoinSubstitution([share, 'launch', 'teacher.launch.py']))]),
        # Large images over best effort get lost even on one machine.
        GroupAction([IncludeLaunchDescription(
            PathJoinSubstitution([share, 'launch', 'student.launch.py']),
            launch_arguments=[('image_topic', 'image'), ('image_reliability', 'reliable')])]),
        OpaqueFunction(function=launch_camera),
        Node(
            package='rviz2', executable='rviz2', output='screen',
            namespace=LaunchConfiguration('namespace'),
            arguments=['-d', PathJoinSubstitution([share, 'config', 'shadowtutor.rviz'])],
            ros_arguments=['--log-level', LaunchConfiguration('log_level')],
            on_exit=end, condition=IfCondition(LaunchConfiguration('rviz')))])


def check(context):
    """Check the arguments, and let the scene be taught by its own ground truth by default."""
    for value in camera_parameters(context).values():
        value.evaluate(context)
    if IfCondition(LaunchConfiguration('rviz')).evaluate(context):
        FindPackageShare('rviz2').perform(context)
    given = context.launch_configurations
    if given['source'] == 'scene' and not given['teacher']:
        return [SetLaunchConfiguration('teacher', 'scene')]


def camera_parameters(context):
    """Return the parameters of the camera that are given."""
    return {
        name: ParameterValue(LaunchConfiguration(name), value_type=kind)
        for name, kind in PARAMETERS.items() if context.launch_configurations[name]}


def launch_camera(context):
    """Return the camera."""
    params_file = LaunchConfiguration('params_file', default=PathJoinSubstitution(
        [FindPackageShare('shadowtutor_ros'), 'config', 'camera.yaml']))
    return [Node(
        package='shadowtutor_ros', executable='camera_node', name='camera', output='screen',
        namespace=LaunchConfiguration('namespace'),
        parameters=[params_file, camera_parameters(context)],
        ros_arguments=['--log-level', LaunchConfiguration('log_level')], on_exit=end)]


def end(event, context):
    """End the others with the camera or with rviz, and fail where that failed."""
    if event.returncode and not context.is_shutdown:
        raise RuntimeError(f'{event.process_name} failed with exit code {event.returncode}')
    return Shutdown(reason=f'{event.process_name} has ended')
