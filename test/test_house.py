"""The rooms of the package, from the ground up: no import leads to a room above."""

import ast
from pathlib import Path
import subprocess
import sys

import pytest
import shadowtutor_ros

PACKAGE = Path(shadowtutor_ros.__file__).parent

#: What stands on one floor knows nothing of what stands beside it.
FLOORS = (
    ('classes', 'errors', 'files', 'limits', 'memory'), ('metrics',), ('world',), ('wire',),
    ('sources',), ('models',),
    ('algorithms',), ('workers',), ('evaluation', 'pretraining', 'nodes'),
    ('reliability', 'launching', 'dashboard'),
    ('commands',))
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def imported(path):
    """Return the modules of this package that a file imports, anywhere in it."""
    modules = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f'{path}: imports here are absolute'
            modules |= {f'{node.module}.{alias.name}' for alias in node.names}
    return {module for module in modules if module.startswith('shadowtutor_ros.')}


def test_every_room_has_its_floor():
    found = {path.stem for path in PACKAGE.iterdir()
             if path.suffix == '.py' or path.is_dir() and (path / '__init__.py').exists()}
    assert found - {'__init__', 'msg'} == set(FLOOR)


@pytest.mark.parametrize('path', sorted(PACKAGE.rglob('*.py')), ids=lambda path: str(
    path.relative_to(PACKAGE)))
def test_no_arrow_points_up(path):
    parts = path.relative_to(PACKAGE).with_suffix('').parts
    if parts[0] in ('__init__', 'msg'):
        return
    for module in imported(path):
        room = module.split('.')[1]
        if room in ('msg', '__version__') or room == parts[0]:
            continue
        assert FLOOR[room] < FLOOR[parts[0]], f'{"/".join(parts)} imports {module}'


@pytest.mark.parametrize('module', ['student_node', 'teacher_node'])
def test_a_node_imports_nothing_that_it_does_not_use(module):
    pytest.importorskip('rclpy')
    code = (f'import sys, shadowtutor_ros.nodes.{module}; '
            'print(*[name for name in sys.modules])')
    names = set(subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout.split())
    assert f'shadowtutor_ros.nodes.{module}' in names
    rooms = {name.split('.')[1] for name in names if name.startswith('shadowtutor_ros.')}
    assert not rooms & {'world', 'sources', 'evaluation', 'pretraining', 'reliability', 'commands'}
    assert not names & {
        'matplotlib', 'onnxruntime', 'torchvision', 'transformers', 'safetensors', 'rich'}
