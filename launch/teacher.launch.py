"""Launch the teacher node on a workstation."""

import os
from typing import List

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction, RegisterEventHandler
from launch.conditions import UnlessCondition
from launch.event_handlers import OnProcessExit
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

# Arguments that are parameters of the node too: where given, they override the parameter file.
PARAMETERS = {
    'teacher': str, 'teacher_weights': str, 'robots': List[str], 'threads': int, 'weights': str,
    'use_sim_time': bool}


def generate_launch_description():
    """Declare the arguments and launch the node."""
    params_file = PathJoinSubstitution(
        [FindPackageShare('shadowtutor_ros'), 'config', 'teacher.yaml'])
    return LaunchDescription([
        DeclareLaunchArgument(
            'namespace', default_value='', description='Namespace of the node.'),
        DeclareLaunchArgument(
            'robots', default_value='',
            description='Namespaces of the robots whose key frames are answered: '
            "\"['/robot1', '/robot2']\"; empty: as in params_file, else the node's own."),
        DeclareLaunchArgument(
            'teacher', default_value='',
            description="A torchvision network, the path of an ONNX file, 'hf:<id or folder>', "
            "'scene', or 'package.module:Class'; empty: as in params_file."),
        DeclareLaunchArgument(
            'teacher_weights', default_value='',
            description="A file of weights, or 'DEFAULT' for torchvision's download; empty: as in "
            'params_file.'),
        DeclareLaunchArgument(
            'threads', default_value='',
            description='Threads that PyTorch computes with on the CPU, fewer where nodes share a '
            'computer; 0: its own choice; empty: as in params_file.'),
        DeclareLaunchArgument(
            'weights', default_value='',
            description='Weights of the student, a .safetensors or .pth file, the same as on the '
            'robots; empty: as in params_file.'),
        DeclareLaunchArgument(
            'params_file', default_value=params_file,
            description='YAML file with the parameters of the node.'),
        DeclareLaunchArgument(
            'preset', default_value='',
            description="'thin' for a slow link, 'rich' for a good one and a teacher with a GPU; "
            'it wins over params_file. The same on robot and workstation.'),
        DeclareLaunchArgument(
            'use_sim_time', default_value='',
            description="'true' takes the time from /clock; empty: as in params_file."),
        DeclareLaunchArgument(
            'log_level', default_value='info',
            description='Least severity that is logged: debug, info, warn, error or fatal.'),
        DeclareLaunchArgument(
            'use_respawn', default_value='false',
            description="'true' starts the node again after it has failed."),
        OpaqueFunction(function=launch_node)])


def launch_node(context):
    """Return the node, and what is done when it fails."""
    given = {name: value for name, value in context.launch_configurations.items() if value}
    if not os.path.isfile(given['params_file']):
        raise RuntimeError(f"params_file '{given['params_file']}' is not a file")
    files = [given['params_file']]
    if 'preset' in given:
        folder = os.path.join(
            FindPackageShare('shadowtutor_ros').find('shadowtutor_ros'), 'config', 'presets',
            given['preset'])
        if not os.path.isdir(folder):
            raise RuntimeError(f"preset '{given['preset']}' is none: there is no {folder}")
        # One that changes nothing of this node has no file for it.
        files += filter(os.path.isfile, [os.path.join(folder, 'teacher.yaml')])
    parameters = {
        name: ParameterValue(LaunchConfiguration(name), value_type=kind)
        for name, kind in PARAMETERS.items() if name in given}
    node = Node(
        # With a name, so that what is given here wins over a section of that name in the file.
        package='shadowtutor_ros', executable='teacher_node', name='teacher', output='screen',
        namespace=LaunchConfiguration('namespace'),
        parameters=[*files, parameters],
        ros_arguments=['--log-level', given['log_level']],
        respawn=LaunchConfiguration('use_respawn'), respawn_delay=2.0)
    return [
        RegisterEventHandler(
            OnProcessExit(target_action=node, on_exit=fail),
            condition=UnlessCondition(LaunchConfiguration('use_respawn'))),
        node]


def fail(event, context):
    """Let the launch fail when its node does, whose own words stand above."""
    if event.returncode and not context.is_shutdown:
        raise RuntimeError(f'{event.process_name} failed with exit code {event.returncode}')
