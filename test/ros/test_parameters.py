"""The tables of parameters and what is made from them."""

from pathlib import Path

import pytest
import yaml

from shadowtutor_ros.algorithms.presets import PRESETS
from shadowtutor_ros.nodes.parameter_files import files, TABLES

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
def test_a_preset_changes_parameters_of_student_and_teacher(preset):
    left = dict(PRESETS[preset])
    for name in ('student', 'teacher'):
        values = yaml.safe_load(
            files()[f'config/presets/{preset}/{name}.yaml'])['/**']['ros__parameters']
        for parameter in TABLES[name]:
            if parameter.name in left:
                value = values
                for part in parameter.name.split('.'):
                    value = value[part]
                assert value == left.pop(parameter.name) != parameter.default
                assert type(value) is type(parameter.default)
                assert parameter.fault(value) is None and not parameter.read_only
    assert not left, 'of no node'
