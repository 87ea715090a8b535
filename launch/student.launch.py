"""Launch the student node on a robot."""

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
from launch_ros.utilities import make_namespace_absolute, prefix_namespace

# Arguments that are parameters of the node too: where given, they override the parameter file.
PARAMETERS = {
    'image_transport': str, 'classes': List[str], 'classes_file': str, 'threads': int,
    'weights': str, 'use_sim_time': bool}


def generate_launch_description():
    """Declare the arguments and launch the node."""
    params_file = PathJoinSubstitution(
        [FindPackageShare('shadowtutor_ros'), 'config', 'student.yaml'])
    return LaunchDescription([
        DeclareLaunchArgument(
            'namespace', default_value='', description='Namespace of the node, one a robot.'),
        DeclareLaunchArgument(
            'image_topic', default_value='image',
            description="The camera's topic, relative to the namespace or absolute; with "
            "image_transport 'compressed' the node subscribes to <image_topic>/compressed."),
        DeclareLaunchArgument(
            'image_transport', default_value='',
            description="'raw' or 'compressed'; empty: as in params_file."),
        DeclareLaunchArgument(
            'image_reliability', default_value='',
            description="'automatic': reliable where all publishers of the images offer it, else "
            "best effort; 'reliable' or 'best_effort' asks for that alone; empty: as in "
            'params_file, else automatic.'),
        DeclareLaunchArgument(
            'classes', default_value='',
            description='What is to be seen: "[\'forklift\', \'pallet\', \'auto: car, bus\']"; '
            'empty: as in params_file, else the classes of the weights.'),
        DeclareLaunchArgument(
            'classes_file', default_value='',
            description="Instead of classes: a YAML file, 'lvs' or 'coco'; empty: as in "
            'params_file.'),
        DeclareLaunchArgument(
            'threads', default_value='',
            description='Threads that PyTorch computes with on the CPU, fewer where nodes share a '
            'computer; 0: its own choice; empty: as in params_file.'),
        DeclareLaunchArgument(
            'weights', default_value='',
            description='Weights of the student, a .safetensors or .pth file, the same as on the '
            'workstation; empty: as in params_file.'),
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
        files += filter(os.path.isfile, [os.path.join(folder, 'student.yaml')])
    parameters = {
        name: ParameterValue(LaunchConfiguration(name), value_type=kind)
        for name, kind in PARAMETERS.items() if name in given}
    image = given['image_topic']
    if 'image_reliability' in given:
        namespace = prefix_namespace(given.get('ros_namespace'), given.get('namespace', ''))
        topic = make_namespace_absolute(prefix_namespace(namespace, image))
        parameters['qos_overrides'] = {
            name: {'subscription': {'reliability': given['image_reliability']}}
            for name in (topic, f'{topic}/compressed')}
    node = Node(
        # With a name, so that what is given here wins over a section of that name in the file.
        package='shadowtutor_ros', executable='student_node', name='student', output='screen',
        namespace=LaunchConfiguration('namespace'),
        parameters=[*files, parameters],
        remappings=[('image', image), ('image/compressed', f'{image}/compressed')],
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
