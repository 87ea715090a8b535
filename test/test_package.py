"""What the files of the package say of each other, and what a build has installed."""

import ast
import configparser
from importlib.metadata import distribution, EntryPoint
import os
from pathlib import Path
import re
import subprocess
import sys
from xml.etree import ElementTree

import pytest
import shadowtutor_ros

CHECKOUT = Path(__file__).resolve().parents[1]
PACKAGE_XML = ElementTree.parse(CHECKOUT / 'package.xml').getroot()
SETUP_CFG = configparser.ConfigParser()
SETUP_CFG.read(CHECKOUT / 'setup.cfg')
REQUIREMENTS = [
    line for line in (CHECKOUT / 'requirements.txt').read_text().splitlines()
    if line and not line.startswith('#')]

# What a module is called by import, by pip and by rosdep; None where rosdep has no key.
LIBRARIES = {
    'PIL': ('pillow', 'python3-pil'),
    'av': ('av', None),
    'cv2': ('opencv-python', 'python3-opencv'),
    'hypothesis': ('hypothesis', 'python3-hypothesis'),
    'matplotlib': ('matplotlib', 'python3-matplotlib'),
    'numpy': ('numpy', 'python3-numpy'),
    'onnx': ('onnx', None),
    'onnxruntime': ('onnxruntime', 'python3-onnxruntime-pip'),
    'ray': ('ray', None),
    'rich': ('rich', 'python3-rich'),
    'rosbags': ('rosbags', None),
    'torch': ('torch', 'python3-pytorch-pip'),
    'torchvision': ('torchvision', 'python3-pytorch-pip'),
    'tornado': ('tornado', 'python3-tornado'),
    'transformers': ('transformers', None),
    'yaml': ('PyYAML', 'python3-yaml'),
}


def console_scripts():
    lines = SETUP_CFG['options.entry_points']['console_scripts'].strip().splitlines()
    return [EntryPoint(*re.split(r'\s*=\s*', line), 'console_scripts') for line in lines]


def installed_site():
    """Return the folder below which the build has installed the Python package."""
    from shadowtutor_ros import msg
    return Path(msg.__file__).parents[2]


def installed_prefix():
    # Humble on Ubuntu installs to <prefix>/local/lib/python3.10/dist-packages.
    return next(folder for folder in installed_site().parents
                if (folder / 'share' / 'shadowtutor_ros' / 'package.xml').is_file())


def imported_modules():
    """Yield (path, name of the top-level module) of every absolute import of the package."""
    for path in [*CHECKOUT.glob('shadowtutor_ros/**/*.py'), *CHECKOUT.glob('launch/*.py')]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module]
            else:
                continue
            yield from ((path, name.partition('.')[0]) for name in names)


def test_version_is_the_same_everywhere():
    assert SETUP_CFG['metadata']['version'] == 'attr: shadowtutor_ros.__version__'
    assert PACKAGE_XML.findtext('version') == shadowtutor_ros.__version__
    assert distribution('shadowtutor_ros').version == shadowtutor_ros.__version__


def test_name_and_licence_are_the_same_everywhere():
    assert PACKAGE_XML.findtext('name') == SETUP_CFG['metadata']['name'] == 'shadowtutor_ros'
    assert PACKAGE_XML.findtext('license') == SETUP_CFG['metadata']['license'] == 'Apache-2.0'
    assert 'Apache License' in (CHECKOUT / 'LICENSE').read_text()


@pytest.mark.parametrize('requirement', REQUIREMENTS)
def test_requirement_is_pinned_to_a_range(requirement):
    assert re.fullmatch(r'[\w\[\]-]+>=[\d.]+,<[\d.]+', requirement)


def test_requirements_are_declared_once():
    names = [re.match(r'[\w-]+', line)[0].lower() for line in REQUIREMENTS]
    assert len(names) == len(set(names))


def test_imports_are_declared():
    required = {re.match(r'[\w-]+', line)[0] for line in REQUIREMENTS}
    declared = {element.text for element in PACKAGE_XML if element.tag.endswith('depend')}
    undeclared = set()
    for path, module in imported_modules():
        if module in sys.stdlib_module_names or module == 'shadowtutor_ros':
            continue
        # A module that is not a library of PyPI comes from the ROS package of that name.
        pip_name, rosdep_key = LIBRARIES.get(module, (None, module))
        if pip_name and pip_name not in required:
            undeclared.add(f'{path.relative_to(CHECKOUT)}: {pip_name} in requirements.txt')
        if rosdep_key and rosdep_key not in declared:
            undeclared.add(f'{path.relative_to(CHECKOUT)}: {rosdep_key} in package.xml')
    assert not undeclared


def keys_of(role):
    """Return what rosdep installs for a role on a robot or a workstation."""
    catkin = pytest.importorskip('catkin_pkg.package')
    package = catkin.parse_package(str(CHECKOUT / 'package.xml'))
    package.evaluate_conditions({'SHADOWTUTOR_ROLE': role})
    return {one.name for one in package.exec_depends if one.evaluated_condition}


def test_a_robot_pulls_nothing_of_the_workstation():
    workstation = {
        'python3-matplotlib', 'python3-onnxruntime-pip', 'python3-rich', 'python3-tornado',
        'rviz2'}
    assert keys_of('') - keys_of('robot') == workstation
    assert keys_of('robot') < keys_of('') == keys_of('workstation')


@pytest.mark.parametrize('node', ['student_node', 'camera_node'])
def test_a_robot_has_all_that_its_nodes_import(node):
    pytest.importorskip('rclpy')
    code = f'import sys, shadowtutor_ros.nodes.{node}; print(*sys.modules)'
    modules = subprocess.run(
        [sys.executable, '-c', code], cwd=CHECKOUT, check=True, capture_output=True,
        text=True).stdout.split()
    needed = {LIBRARIES[name][1] for name in modules if name in LIBRARIES}
    assert 'python3-numpy' in needed
    assert needed <= keys_of('robot')


@pytest.mark.parametrize('script', console_scripts(), ids=lambda script: script.name)
def test_console_script_is_installed_and_resolves(script):
    assert callable(script.load())
    installed = installed_prefix() / 'lib' / 'shadowtutor_ros' / script.name
    assert os.access(installed, os.X_OK)
    assert script in distribution('shadowtutor_ros').entry_points


def test_every_folder_of_modules_is_a_package():
    # setuptools' find: leaves out folders without __init__.py.
    folders = {path.parent for path in CHECKOUT.glob('shadowtutor_ros/**/*.py')}
    assert all((folder / '__init__.py').is_file() for folder in folders)


@pytest.mark.parametrize('folder', ['config', 'launch', 'msg'])
def test_folder_is_installed(folder):
    sources = {path.name for path in (CHECKOUT / folder).iterdir() if path.is_file()}
    share = installed_prefix() / 'share' / 'shadowtutor_ros' / folder
    assert sources
    assert sources <= {path.name for path in share.iterdir()}


def test_weights_are_installed():
    weights = {path.name for path in CHECKOUT.glob('shadowtutor_ros/weights/*.safetensors')}
    site = installed_site() / 'shadowtutor_ros'
    assert weights
    assert weights <= {path.name for path in site.glob('weights/*.safetensors')}


def test_package_is_found_through_the_ament_index(monkeypatch):
    packages = pytest.importorskip('ament_index_python.packages')
    monkeypatch.setenv('AMENT_PREFIX_PATH', str(installed_prefix()))
    share = installed_prefix() / 'share' / 'shadowtutor_ros'
    assert packages.get_package_share_directory('shadowtutor_ros') == str(share)


@pytest.mark.parametrize('checkout_first', [False, True])
def test_messages_are_found_with_and_without_the_checkout(checkout_first, tmp_path):
    path = [entry for entry in os.environ.get('PYTHONPATH', '').split(os.pathsep)
            if entry and Path(entry).resolve() != CHECKOUT]
    path.insert(0, str(CHECKOUT if checkout_first else installed_site()))
    code = ('import shadowtutor_ros; from shadowtutor_ros.msg import KeyFrame;'
            'print(shadowtutor_ros.__file__)')
    origin = subprocess.run(
        [sys.executable, '-c', code], cwd=tmp_path, check=True, capture_output=True, text=True,
        env={**os.environ, 'PYTHONPATH': os.pathsep.join(path)}).stdout.strip()
    assert Path(origin).parents[1] == Path(path[0])
