"""The launch files, and what rviz2 is told to show."""

import ast
import os
from pathlib import Path
import re
import shutil
import subprocess
import sys

import domains
import pytest
import yaml

from shadowtutor_ros.launching.arguments import DRIVERS, TABLES

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

service = LaunchService(argv=sys.argv[2:], noninteractive=True)
service.include_launch_description(LaunchDescription([IncludeLaunchDescription(
    sys.argv[1], launch_arguments=[argument.split(':=', 1) for argument in sys.argv[2:]])]))
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
    """Return the arguments of a launch file by name, as ``--show-args`` lists them."""
    path = CHECKOUT / 'launch' / f'{name}.launch.py'
    description = launch.get_launch_description_from_python_launch_file(str(path))
    return {argument.name: argument for argument in description.get_launch_arguments()}


@pytest.fixture
def run(launch, monkeypatch):
    """Return a function that runs a launch file until it ends."""
    monkeypatch.setenv('ROS_DOMAIN_ID', str(domains.draw()))
    monkeypatch.setenv('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')

    def run(path, *arguments):
        return subprocess.run(
            [sys.executable, '-c', LAUNCH, str(CHECKOUT / 'launch' / path), *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300)
    return run


@pytest.fixture
def run_demo(run, weights):
    """Return a function that runs demo.launch.py on a few small frames until it ends."""
    return lambda *arguments: run(
        'demo.launch.py', 'frames:=8', 'width:=160', 'height:=96', f'weights:={weights}',
        *arguments)


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Return a function that installs a package with one executable, a Python script."""
    def install(package, executable, script):
        for folder in ('share/ament_index/resource_index/packages', f'share/{package}',
                       f'lib/{package}'):
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / 'share/ament_index/resource_index/packages' / package).touch()
        path = tmp_path / 'lib' / package / executable
        path.write_text(f'#!{sys.executable}\n{script}')
        path.chmod(0o755)
        monkeypatch.setenv(
            'AMENT_PREFIX_PATH', f"{tmp_path}{os.pathsep}{os.environ['AMENT_PREFIX_PATH']}")
    return install


def rviz_config():
    return yaml.safe_load((CHECKOUT / 'config' / 'shadowtutor.rviz').read_text())


def published_topics():
    """Return the topics that the nodes publish images on, as their code names them."""
    code = ''.join(path.read_text() for path in CHECKOUT.glob('shadowtutor_ros/nodes/*_node.py'))
    return set(re.findall(r"ImagePublisher\(\s*self, '([^']+)'", code))


def test_launch_files_are_there():
    assert {path.name for path in LAUNCH_FILES} == {f'{name}.launch.py' for name in TABLES}


@pytest.mark.parametrize('path', LAUNCH_FILES, ids=lambda path: path.name)
def test_launch_file_needs_nothing_but_launch(path):
    tree = ast.parse(path.read_text())
    modules = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import)
               for name in node.names}
    modules |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {module.rpartition('.')[0] for module in modules
            if module not in sys.stdlib_module_names} == {'shadowtutor_ros.launching'}


@pytest.mark.parametrize('name', TABLES)
def test_all_arguments_and_no_others_are_shown(launch, name):
    arguments = described(launch, name)
    assert list(arguments) == [argument.name for argument in TABLES[name]]
    for argument in TABLES[name]:
        shown = arguments[argument.name]
        assert shown.description.startswith(argument.text)
        assert ''.join(part.text for part in shown.default_value) == argument.default


@pytest.mark.parametrize('name, node', [
    ('student', 'student'), ('teacher', 'teacher'), ('demo', 'camera'), ('demo', 'student'),
    ('demo', 'teacher'), ('robot', 'student'), ('robots', 'teacher')])
def test_arguments_for_parameters_have_their_types(name, node):
    from shadowtutor_ros.nodes.parameter_files import TABLES as PARAMETERS
    kinds = {'string': (str, Path), 'integer': (int,), 'double': (float,), 'bool': (bool,),
             'string array': (list,)}
    arguments = {argument.name: argument for argument in TABLES[name]}
    common = {
        parameter.name: parameter for parameter in PARAMETERS[node] if parameter.name in arguments
        and (name, parameter.name) != ('robots', 'robots')}
    assert 'threads' in common or node == 'camera'
    for parameter in common.values():
        argument = arguments[parameter.name]
        assert argument.kind in kinds[parameter.type_name]
        assert not parameter.choices or set(argument.choices) == {'', *parameter.choices}


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
    ('rate:=fast', "rate is 'fast': expected a number"),
    ('width:=abc', "width is 'abc': expected an integer"),
    ('image_transport:=carrier_pigeon', 'carrier_pigeon'),
    ('rviz:=true', 'sudo apt install ros-')])
def test_demo_fails_with_what_is_wrong(run_demo, argument, message):
    demo = run_demo('frames:=0', argument)  # so that it does not end by itself before
    assert demo.returncode == 1, demo.stdout
    assert message in demo.stdout
    assert 'Traceback' not in demo.stdout


def test_an_unknown_argument_is_told(run_demo):
    demo = run_demo('widht:=320')
    assert demo.returncode == 0, demo.stdout
    assert "there is no argument 'widht'" in demo.stdout
    assert 'did you mean width' in demo.stdout


def test_nodes_have_the_names_that_are_given(run_demo):
    demo = run_demo('student_name:=pupil', 'teacher_name:=master', 'camera_name:=eye')
    assert demo.returncode == 0, demo.stdout
    assert '[pupil]: teacher /master was found' in demo.stdout
    assert '[eye]: playing scene' in demo.stdout


# Includes both nodes, with arguments of their own and with none, and a file that asks them.
INCLUDING = """
import sys

from launch import LaunchDescription
from launch.actions import (
    DeclareLaunchArgument, ExecuteProcess, IncludeLaunchDescription, LogInfo, Shutdown)
from launch.substitutions import LaunchConfiguration


def generate_launch_description():
    given = {given!r}
    return LaunchDescription([
        *(IncludeLaunchDescription(
            f'{checkout}/launch/{{name}}.launch.py', launch_arguments=arguments.items())
          for name, arguments in given.items()),
        DeclareLaunchArgument('params_file', default_value='another_package.yaml'),
        LogInfo(msg=['AFTERWARDS ', LaunchConfiguration('params_file')]),
        ExecuteProcess(
            cmd=[sys.executable, '{asking}'], output='screen', on_exit=Shutdown())])
"""

ASKING = """
import sys

import rclpy
from rcl_interfaces.srv import GetParameters
from rclpy.parameter import parameter_value_to_python

rclpy.init()
node = rclpy.create_node('asking')
for name, parameters in {asked!r}.items():
    client = node.create_client(GetParameters, f'/{{name}}/get_parameters')
    assert client.wait_for_service(120.0), name
    future = client.call_async(GetParameters.Request(names=parameters))
    rclpy.spin_until_future_complete(node, future, timeout_sec=60.0)
    print('ASKED', name, [parameter_value_to_python(value) for value in future.result().values])
"""

ASKED = {'student': ['min_stride', 'threads', 'weights'],
         'teacher': ['max_updates', 'threads', 'weights']}


def test_files_included_into_one_keep_their_own_arguments(run, weights, tmp_path):
    copies = {name: shutil.copy(weights, f'{tmp_path}/{name}.safetensors') for name in ASKED}
    for name in ASKED:
        (tmp_path / f'{name}.yaml').write_text(yaml.safe_dump({'/**': {'ros__parameters': {
            'min_stride': 12, 'max_updates': 3}}}))
    given = {
        'student': {'params_file': f'{tmp_path}/student.yaml', 'threads': '1',
                    'weights': copies['student']},
        'teacher': {'params_file': f'{tmp_path}/teacher.yaml', 'threads': '2',
                    'weights': copies['teacher'], 'teacher': 'scene'}}
    assert ask(run, tmp_path, given)[0] == {
        'student': [12, 1, copies['student']], 'teacher': [3, 2, copies['teacher']]}


def test_files_included_into_one_keep_their_own_defaults(run, tmp_path):
    answers, afterwards = ask(run, tmp_path, {'student': {}, 'teacher': {'teacher': 'scene'}})
    assert afterwards == 'another_package.yaml'
    from shadowtutor_ros.nodes.parameter_files import TABLES as PARAMETERS
    defaults = {parameter.name: parameter.default
                for name in ASKED for parameter in PARAMETERS[name]}
    assert answers == {name: [defaults[asked] for asked in ASKED[name]] for name in ASKED}


def ask(run, tmp_path, given):
    """
    Run the nodes from one description.

    Return the parameters that they have, and the params_file of what is included after them.
    """
    (tmp_path / 'asking.py').write_text(ASKING.format(asked=ASKED))
    path = tmp_path / 'both.launch.py'
    path.write_text(INCLUDING.format(
        given=given, checkout=CHECKOUT, asking=tmp_path / 'asking.py'))
    both = run(path)
    assert both.returncode == 0, both.stdout
    lines = re.findall(r'ASKED (\w+) (.*)', both.stdout)
    assert len(lines) == len(given), both.stdout
    afterwards = re.search(r'AFTERWARDS (.*)', both.stdout)[1]
    return {name: ast.literal_eval(values) for name, values in lines}, afterwards


# A driver's parameters with their types, from the sources of v4l2_camera 0.6 and usb_cam 0.8.
PARAMETERS = {
    'v4l2_camera': {
        'video_device': '/dev/video0', 'camera_frame_id': 'camera', 'camera_info_url': '',
        'image_size': [640, 480], 'time_per_frame': [1, 30], 'pixel_format': 'YUYV'},
    'usb_cam': {
        'video_device': '/dev/video0', 'frame_id': 'default_cam', 'camera_info_url': '',
        'image_width': 640, 'image_height': 480, 'framerate': 30.0, 'pixel_format': 'yuyv'}}

# A driver that publishes until all robots have had a mask, and then ends.
DRIVER = """
import rclpy
from sensor_msgs.msg import Image

rclpy.init()
node = rclpy.create_node('unnamed')
values = {{name: node.declare_parameter(name, default).value
          for name, default in {parameters!r}.items()}}
print('PARAMETERS', {{name: list(value) if hasattr(value, 'tolist') else value
                     for name, value in values.items()}}, node.get_fully_qualified_name())
image = Image(width=96, height=64, encoding='mono8', step=96, data=bytes(96 * 64))
publisher = node.create_publisher(Image, 'image_raw', 1)
masks = {{}}
for robot in {robots!r}:
    node.create_subscription(
        Image, f'{{robot}}/segmentation/mask', lambda mask, robot=robot: masks.update(
            {{robot: mask}}), 1)
node.create_timer(0.2, lambda: publisher.publish(image))
while len(masks) < len({robots!r}):
    rclpy.spin_once(node)
"""


@pytest.mark.parametrize('package', PARAMETERS)
def test_a_robot_has_a_driver_and_a_student(run, install, weights, package, tmp_path):
    install(package, DRIVERS[package], DRIVER.format(
        parameters=PARAMETERS[package], robots=['/robot1']))
    (tmp_path / 'camera.yaml').write_text('/**: {ros__parameters: {pixel_format: GREY}}')
    robot = run(
        'robot.launch.py', 'namespace:=robot1', f'driver:={package}', 'video_device:=/dev/null',
        'width:=320', 'height:=180', 'rate:=7.5', f'weights:={weights}',
        f'camera_params_file:={tmp_path}/camera.yaml')
    assert robot.returncode == 0, robot.stdout
    assert 'segmenting /robot1/camera/image_raw' in robot.stdout
    values, name = re.search(r'PARAMETERS ({.*}) (.*)', robot.stdout).groups()
    assert name == f'/robot1/camera/{package}'
    expected = {
        'v4l2_camera': {'camera_frame_id': 'camera', 'image_size': [320, 180],
                        'time_per_frame': [2, 15]},
        'usb_cam': {'frame_id': 'camera', 'image_width': 320, 'image_height': 180,
                    'framerate': 7.5}}[package]
    assert ast.literal_eval(values) == {
        'video_device': '/dev/null', 'camera_info_url': '', 'pixel_format': 'GREY', **expected}


@pytest.mark.parametrize('given, message', [
    ((), 'driver:=v4l2_camera needs the package v4l2_camera, which is not installed: sudo apt '
     'install ros-'),
    (('driver:=laptop',), 'laptop'),
    (('driver:=camera_node', 'camera_info_url:=file:///c.yaml'), 'camera_info_url needs'),
    (('driver:=none', 'params_file:=/no/file.yaml'), "'/no/file.yaml' is not a file")])
def test_a_robot_fails_with_what_is_wrong(run, given, message):
    robot = run('robot.launch.py', *given)
    assert robot.returncode == 1 and message in robot.stdout
    assert 'Traceback' not in robot.stdout and 'process started' not in robot.stdout


@pytest.mark.parametrize('given, message', [
    (('video_device:=/dev/video99',), "video_device '/dev/video99' is not there; there are: "),
    (('video_device:=/dev/null', 'rate:=0'), 'rate is 0.0: expected more than 0'),
    (('video_device:=/dev/null', 'width:=640'), 'width and height are given together')])
def test_a_driver_is_not_started_with_what_is_wrong(run, install, given, message):
    install('v4l2_camera', 'v4l2_camera_node', '')
    robot = run('robot.launch.py', *given)
    assert robot.returncode == 1 and message in robot.stdout
    assert 'process started' not in robot.stdout


def test_robots_share_a_teacher(run, install, weights):
    install('usb_cam', 'usb_cam_node_exe', DRIVER.format(
        parameters=PARAMETERS['usb_cam'], robots=['/fleet/front', '/fleet/rear']))
    robots = run(
        'robots.launch.py', 'robots:=front, rear', 'namespace:=fleet', 'driver:=usb_cam',
        'video_device:=/dev/null, /dev/zero', f'weights:={weights}', 'teacher:=scene',
        'teacher_name:=master')
    assert robots.returncode == 0, robots.stdout
    for name, device in (('front', '/dev/null'), ('rear', '/dev/zero')):
        assert f'segmenting /fleet/{name}/camera/image_raw' in robots.stdout
        assert f'answering /fleet/{name}/key_frames' in robots.stdout
        values = re.search(rf'PARAMETERS (.*) /fleet/{name}/camera/usb_cam', robots.stdout)[1]
        values = ast.literal_eval(values)
        assert (values['video_device'], values['frame_id']) == (device, f'{name}/camera')


@pytest.mark.parametrize('given, message', [
    ('video_device:=a, b, c', 'video_device has 3 entries: expected one, or one for each of the '
     '2 robots'),
    ('robots:=[]', "robots is '[]': expected a list")])
def test_robots_fail_with_what_is_wrong(run, given, message):
    robots = run('robots.launch.py', given)
    assert robots.returncode == 1 and message in robots.stdout
    assert 'process started' not in robots.stdout


def test_rviz_follows_the_namespace(run, install):
    install('rviz2', 'rviz2', 'import sys; print(sys.argv[1:])')
    rviz = run('rviz.launch.py', 'namespace:=robot1', 'image_topic:=camera/image_raw')
    assert rviz.returncode == 0, rviz.stdout
    words = ast.literal_eval(re.search(r'\[rviz2-1\] (\[.*\])', rviz.stdout)[1])
    assert Path(words[words.index('-d') + 1]).name == 'shadowtutor.rviz'
    assert {'__ns:=/robot1', 'image:=camera/image_raw',
            'image/compressed:=camera/image_raw/compressed'} <= set(words)


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
