"""The arguments of the launch files, as far as launch itself is not needed."""

from pathlib import Path
import subprocess
import sys

import pytest

from shadowtutor_ros.launching.arguments import Argument, ArgumentError, ROBOT, TABLES, unknown


@pytest.mark.parametrize('kind, text, value', [
    (int, '640', 640), (int, ' 8.0 ', 8), (int, '-1', -1), (float, '7', 7.0), (float, '-1', -1.0),
    (bool, 'true', True), (bool, 'False', False), (bool, '1', True), (bool, '0', False),
    (str, '640', '640'), (str, "it's", "it's"), (Path, '~/w.pth', str(Path.home() / 'w.pth')),
    (list, "['/robot1', '/robot2']", ['/robot1', '/robot2']), (list, '/robot1', ['/robot1']),
    (list, '/robot1, /robot2', ['/robot1', '/robot2']), (list, "['']", ['']),
    (list, 'file:///a.yaml, file:///b.yaml', ['file:///a.yaml', 'file:///b.yaml'])])
def test_a_value_is_read_as_it_is_written(kind, text, value):
    read = Argument('x', 'what it is', kind).read(text)
    assert read == value and type(read) is type(value)


@pytest.mark.parametrize('text, value', [
    ('cat, dog', ['cat', 'dog']), ('auto: car, bus', ['auto: car, bus']),
    ('forklift; auto: car, bus', ['forklift', 'auto: car, bus']),
    ("['forklift', 'auto: car, bus']", ['forklift', 'auto: car, bus'])])
def test_classes_may_be_unions(text, value):
    classes, = (argument for argument in TABLES['student'] if argument.name == 'classes')
    assert classes.read(text) == value


@pytest.mark.parametrize('kind', [bool, int, float, str, list, Path])
def test_what_is_empty_is_not_given(kind):
    assert Argument('x', 'what it is', kind).read('') is None


@pytest.mark.parametrize('kind, text, expected', [
    (int, 'abc', "width is 'abc': expected an integer, such as 8"),
    (int, '8.5', "width is '8.5': expected an integer, such as 8"),
    (int, 'nan', "width is 'nan': expected an integer, such as 8"),
    (float, 'fast', "width is 'fast': expected a number, such as 7.5"),
    (bool, 'maybe', "width is 'maybe': expected true or false"),
    (list, '[]', "width is '[]': expected a list of one or more, such as \"['a', 'b']\""),
    (list, '[1, 2]', "width is '[1, 2]': expected a list of one or more, such as \"['a', 'b']\""),
    (list, "['a'", "width is '['a'': expected a list of one or more, such as \"['a', 'b']\"")])
def test_a_wrong_value_is_named(kind, text, expected):
    with pytest.raises(ArgumentError) as raised:
        Argument('width', 'what it is', kind).read(text)
    assert str(raised.value) == expected


def test_unknown_arguments_are_told_with_the_nearest_ones():
    sentences = unknown(['widht', 'width', 'min_stride'], ROBOT)
    assert len(sentences) == 2
    assert "'widht'" in sentences[0] and 'did you mean width' in sentences[0]
    assert "'min_stride'" in sentences[1] and 'params_file' in sentences[1]


@pytest.mark.parametrize('name', TABLES)
def test_tables_are_sound(name):
    names = [argument.name for argument in TABLES[name]]
    assert len(names) == len(set(names))
    assert {'namespace', 'log_level'} <= set(names)
    for argument in TABLES[name]:
        assert argument.text.endswith('.') and argument.text[0].isupper() | (
            argument.text[0] == "'")
        argument.read(argument.default)
        assert not argument.choices or argument.default in argument.choices


@pytest.mark.parametrize('name', sorted(TABLES.keys() - {'rviz'}))
def test_every_launch_file_has_the_usual_arguments(name):
    assert {'params_file', 'use_sim_time', 'use_respawn'} <= {
        argument.name for argument in TABLES[name]}


def test_a_launch_starts_without_pytorch():
    code = ('import sys, shadowtutor_ros.launching.arguments\n'
            'try:\n import shadowtutor_ros.launching.nodes\n'
            # Without launch there is still the folder of that name in the checkout.
            'except ImportError as error:\n assert error.name.startswith("launch")\n'
            'print(*sys.modules)')
    names = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout.split()
    assert 'shadowtutor_ros.launching.arguments' in names
    assert not {'torch', 'cv2', 'shadowtutor_ros.nodes.parameters'} & set(names)
