"""The tables of parameters and what is made from them."""

from pathlib import Path

from helpers import wait_for
import pytest
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter as RosParameter
import yaml

from shadowtutor_ros.algorithms.presets import PRESETS
from shadowtutor_ros.algorithms.server import SILENCE
from shadowtutor_ros.nodes.parameter_files import changed, files, TABLES
from shadowtutor_ros.nodes.parameters import (
    Parameter, ParameterError, ParameterNode, Parameters)

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize('path', files())
def test_files_are_up_to_date(path):
    assert (ROOT / path).read_text() == files()[path], (
        'run python -m shadowtutor_ros.nodes.parameter_files')


@pytest.mark.parametrize('name', TABLES)
def test_yaml_holds_every_default(name):
    values = yaml.safe_load(files()[f'config/{name}.yaml'])['/**']['ros__parameters']
    for parameter in TABLES[name]:
        value = values
        for part in parameter.name.split('.'):
            value = value[part]
        assert value == parameter.default and type(value) is type(parameter.default)


@pytest.mark.parametrize('name', TABLES)
def test_defaults_are_valid_and_texts_are_there(name):
    for parameter in TABLES[name]:
        assert parameter.fault(parameter.default) is None
        assert parameter.text


class Tutor(ParameterNode):
    """A node with one parameter of each type."""

    TABLE = (
        Parameter('stride', 8, 'frames', (1, 100)), Parameter('drift', 0.5, 'change', (0.0, 10.0)),
        Parameter('loop', False, 'again'), Parameter('scope', 'decoder', 'what is trained'),
        Parameter('names', [''], 'what is seen'),
        Parameter('threads', 0, 'of PyTorch', read_only=True))

    def __init__(self, **kwargs):
        super().__init__('tutor', **kwargs)
        self.parameters = Parameters(self, self.TABLE)


def set_as_users_do(ros, node, name, value):
    """Set a parameter by its service, as ``ros2 param set`` does; return the result."""
    client = ros.probe.create_client(SetParameters, 'tutor/set_parameters')
    assert client.wait_for_service(30.0)
    future = client.call_async(SetParameters.Request(parameters=[
        RosParameter(name, value=value).to_parameter_msg()]))
    return wait_for(lambda: future.done() and future.result()).results[0]


@pytest.mark.parametrize('name, written, meant', [('stride', 16.0, 16), ('drift', 1, 1.0)])
def test_a_number_may_be_written_either_way(ros, name, written, meant):
    node = ros.start(Tutor)
    assert set_as_users_do(ros, node, name, written).successful
    started = ros.start(Tutor, remap=['__node:=other'], **{name: written})
    for values in (node.parameters[name], node.get_parameter(name).value,
                   started.parameters[name], started.get_parameter(name).value):
        assert values == meant and type(values) is type(meant)
    assert node.describe_parameter(name).type == RosParameter(name, value=meant).type_.value


@pytest.mark.parametrize('name, value, expected', [
    ('stride', 8.5, 'stride is 8.5: expected integer from 1 to 100, such as 8'),
    ('stride', 'eight', "stride is 'eight': expected integer from 1 to 100, such as 8"),
    ('stride', True, 'stride is True: expected integer from 1 to 100, such as 8'),
    ('stride', 0, 'stride is 0: expected integer from 1 to 100'),
    ('drift', 11, 'drift is 11.0: expected double from 0.0 to 10.0'),
    ('loop', 1, 'loop is 1: expected bool, true or false'),
    ('scope', 3, 'scope is 3: expected string, in quotes where it looks like a number'),
    *(('names', value, f"names is {value!r}: expected string array, such as ['a', 'b'], or [''] "
       'for none') for value in ('cat', [1], [])),
    ('stride', None, 'stride is without a value: expected integer from 1 to 100, such as 8')])
def test_a_wrong_value_is_named_at_the_start_and_later(ros, name, value, expected):
    node = ros.start(Tutor)
    before = dict(node.parameters.values)
    result = set_as_users_do(ros, node, name, value)
    assert not result.successful
    assert result.reason == expected
    assert node.parameters.values == before
    if value is not None:  # which is no value to start with
        with pytest.raises(ParameterError, match=name) as raised:
            ros.start(Tutor, **{name: value})
        assert '\n' not in str(raised.value)


def test_what_is_fixed_says_where_it_is_given(ros):
    result = set_as_users_do(ros, ros.start(Tutor), 'threads', 2)
    assert not result.successful and 'threads is fixed while the node runs' in result.reason


@pytest.mark.parametrize('preset', PRESETS)
def test_a_preset_changes_parameters_of_the_nodes(preset):
    left = dict(PRESETS[preset])
    for name, table in TABLES.items():
        parameters = changed(preset, table)
        path = f'config/presets/{preset}/{name}.yaml'
        assert bool(parameters) == (path in files())
        defaults = {parameter.name: parameter for parameter in table}
        for parameter in parameters:
            default = defaults[parameter.name]
            assert parameter.default == left.pop(parameter.name) != default.default
            assert type(parameter.default) is type(default.default)
            assert default.fault(parameter.default) is None and not default.read_only
            value = yaml.safe_load(files()[path])['/**']['ros__parameters']
            for part in parameter.name.split('.'):
                value = value[part]
            assert value == parameter.default
    assert not left, 'of no node'


@pytest.mark.parametrize('preset', [{}, *PRESETS.values()], ids=['defaults', *PRESETS])
def test_a_student_before_a_still_scene_is_not_taken_for_one_that_is_gone(preset):
    values = {parameter.name: parameter.default for parameter in TABLES['student']} | preset
    assert values['still_stride'] / values['stride_rate'] < SILENCE
