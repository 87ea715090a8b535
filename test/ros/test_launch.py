"""The launch files, and what rviz2 is told to show."""

import ast
from pathlib import Path
import re
import secrets
import subprocess
import sys

import pytest
import yaml

CHECKOUT = Path(__file__).resolve().parents[2]
LAUNCH_FILES = sorted(CHECKOUT.glob('launch/*.launch.py'))

# What rviz2 of Humble to Kilted has, of what a layout of images needs.
RVIZ_CLASSES = {
    'rviz_common/Displays', 'rviz_default_plugins/Image', 'rviz_default_plugins/Interact',
    'rviz_default_plugins/MoveCamera', 'rviz_default_plugins/Orbit'}

# Launches with the arguments that are given, and with a time limit.
LAUNCH = """
import sys
import threading

from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription

service = LaunchService(noninteractive=True)
service.include_launch_description(LaunchDescription([IncludeLaunchDescription(
    sys.argv[1], launch_arguments=[argument.split(':=') for argument in sys.argv[2:]])]))
timer = threading.Timer(90, service.shutdown)
timer.start()
status = service.run()
timer.cancel()
sys.exit(status)
"""


@pytest.fixture(scope='module')
def launch():
    """Return the package launch, where there is a ROS install; it is not on PyPI."""
    reason = 'the ROS packages launch and launch_ros are not on PyPI: source a ROS 2 install'
    pytest.importorskip('launch_ros', reason=reason)
    return pytest.importorskip('launch.launch_description_sources', reason=reason)


def described(launch, name):
    """Return the arguments of a launch file by name."""
    path = CHECKOUT / 'launch' / f'{name}.launch.py'
    description = launch.get_launch_description_from_python_launch_file(str(path))
    return {argument.name: argument for argument in description.get_launch_arguments()}


@pytest.fixture
def run_demo(launch, weights, monkeypatch):
    """Return a function that runs demo.launch.py on a few small frames until it ends."""
    monkeypatch.setenv('ROS_DOMAIN_ID', str(secrets.randbelow(90) + 10))
    monkeypatch.setenv('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')

    def run(*arguments):
        return subprocess.run(
            [sys.executable, '-c', LAUNCH, str(CHECKOUT / 'launch' / 'demo.launch.py'),
             'frames:=8', 'width:=160', 'height:=96', f'weights:={weights}', *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300)
    return run


def rviz_config():
    return yaml.safe_load((CHECKOUT / 'config' / 'shadowtutor.rviz').read_text())


def published_topics():
    """Return the topics that the nodes publish images on, as their code names them."""
    code = ''.join(path.read_text() for path in CHECKOUT.glob('shadowtutor_ros/nodes/*_node.py'))
    return set(re.findall(r"ImagePublisher\(\s*self, '([^']+)'", code))


def test_launch_files_are_there():
    assert [path.name for path in LAUNCH_FILES] == [
        'demo.launch.py', 'student.launch.py', 'teacher.launch.py']


@pytest.mark.parametrize('path', LAUNCH_FILES, ids=lambda path: path.name)
def test_launch_file_needs_launch_and_launch_ros_alone(path):
    tree = ast.parse(path.read_text())
    modules = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import)
               for name in node.names}
    modules |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {module.partition('.')[0] for module in modules} - set(sys.stdlib_module_names) == {
        'launch', 'launch_ros'}


@pytest.mark.parametrize('name', ['student', 'teacher', 'demo'])
def test_every_argument_is_described(launch, name):
    arguments = described(launch, name)
    assert {'namespace', 'use_sim_time', 'params_file', 'log_level', 'use_respawn'} <= set(
        arguments)
    for argument in arguments.values():
        assert argument.description != 'no description given'
        assert argument.default_value is not None


@pytest.mark.parametrize('name', ['student', 'teacher', 'demo'])
def test_arguments_for_parameters_name_parameters(name):
    from shadowtutor_ros.nodes.parameter_files import CAMERA, TABLES
    tree = ast.parse((CHECKOUT / 'launch' / f'{name}.launch.py').read_text())
    assignment = next(
        node.value for node in tree.body
        if isinstance(node, ast.Assign) and node.targets[0].id == 'PARAMETERS')
    types = {key.value: ast.unparse(value)
             for key, value in zip(assignment.keys, assignment.values)}
    assert types.pop('use_sim_time') == 'bool'
    declared = {parameter.name: parameter for parameter in TABLES.get(name, CAMERA)}
    names = {'string': 'str', 'integer': 'int', 'double': 'float', 'bool': 'bool',
             'string array': 'List[str]'}
    assert types == {key: names[declared[key].type_name] for key in types}


@pytest.mark.parametrize('namespace', ['', 'robot1'])
def test_demo_ends_with_the_camera(run_demo, namespace):
    demo = run_demo(f'namespace:={namespace}')
    assert demo.returncode == 0, demo.stdout
    prefix = f'/{namespace}' if namespace else ''
    assert f'segmenting {prefix}/image' in demo.stdout
    assert f'answering {prefix}/key_frames' in demo.stdout
    assert demo.stdout.count('process has finished cleanly') == 3
    assert 'Traceback' not in demo.stdout


def test_what_is_given_wins_over_the_parameter_file(run_demo, tmp_path):
    path = tmp_path / 'mixed.yaml'
    path.write_text(yaml.safe_dump({
        '/**': {'ros__parameters': {'threads': 1}},
        'camera': {'ros__parameters': {'source': '/no/video.mp4', 'frames': 8}}}))
    demo = run_demo('source:=scene', f'params_file:={path}')
    assert demo.returncode == 0, demo.stdout
    assert 'playing scene' in demo.stdout


@pytest.mark.parametrize('argument, message', [
    ('teacher:=nonsense', "unknown teacher 'nonsense'"),
    ('weights:=/no/such.pth', "'/no/such.pth' are not a file"),
    ('source:=/no/video.mp4', "'/no/video.mp4' is not there"),
    ('params_file:=/no/file.yaml', "'/no/file.yaml' is not a file"),
    ('rate:=fast', "'fast'")])
def test_demo_fails_with_what_is_wrong(run_demo, argument, message):
    demo = run_demo(argument)
    assert demo.returncode == 1, demo.stdout
    assert message in demo.stdout
    assert 'Traceback' not in demo.stdout


def test_rviz_shows_topics_that_are_published():
    displays = rviz_config()['Visualization Manager']['Displays']
    shown = {display['Topic']['Value'] for display in displays}
    assert shown == {'image', 'segmentation/color_mask', 'segmentation/overlay'}
    assert shown <= published_topics()
    assert all(display['Enabled'] for display in displays)


def test_rviz_knows_the_classes():
    def classes(value):
        if isinstance(value, dict):
            yield from [value['Class']] if value.get('Class') else []
            value = list(value.values())
        if isinstance(value, list):
            for item in value:
                yield from classes(item)
    assert set(classes(rviz_config())) == RVIZ_CLASSES


def test_rviz_places_every_display():
    config = rviz_config()
    displays = [display['Name'] for display in config['Visualization Manager']['Displays']]
    state = bytes.fromhex(config['Window Geometry']['QMainWindow State'])
    for name in displays:
        assert name.encode('utf-16-be') in state
        assert config['Window Geometry'][name] == {'collapsed': False}


def test_rviz_needs_no_transform():
    from shadowtutor_ros.nodes.parameter_files import CAMERA
    frame_id = next(parameter for parameter in CAMERA if parameter.name == 'frame_id')
    options = rviz_config()['Visualization Manager']['Global Options']
    assert options['Fixed Frame'] == frame_id.default
