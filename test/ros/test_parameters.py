"""The tables of parameters and what is made from them."""

from pathlib import Path

import pytest
import yaml

from shadowtutor_ros.algorithms.presets import PRESETS
from shadowtutor_ros.algorithms.server import SILENCE
from shadowtutor_ros.nodes.parameter_files import changed, files, TABLES

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize('path', files())
def test_files_are_up_to_date(path):
    assert (ROOT / path).read_text() == files()[path], (
        'run python -m shadowtutor_ros.nodes.parameters')


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
