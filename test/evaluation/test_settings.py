"""Settings by name."""

import pytest

from shadowtutor_ros.algorithms.client import ClientSettings
from shadowtutor_ros.algorithms.server import ServerSettings
from shadowtutor_ros.evaluation.settings import (
    default_settings, make_method, PAPER_SETTINGS, parse_setting, SettingsError)
from shadowtutor_ros.evaluation.simulate import Method


def test_defaults_are_those_of_the_engine():
    assert make_method('partial', 8, {}) == Method(
        'partial', 8, ClientSettings(), ServerSettings())
    assert make_method('wild', None, default_settings()) == Method('wild')


@pytest.mark.parametrize('text, name, value', [
    ('min_stride=4', 'min_stride', 4), ('learning_rate=3e-3', 'learning_rate', 0.003),
    ('object_weight=1', 'object_weight', 1.0), ('late_update = wait', 'late_update', 'wait'),
    ('encoding=fp16', 'encoding', 'fp16'), ('key_frame.format=png', 'key_frame.format', 'png'),
    ('key_frame.max_width=320', 'key_frame.max_width', 320),
    ('always_offered=person, dog', 'always_offered', ('person', 'dog')),
    ('always_offered=', 'always_offered', ())])
def test_a_setting_has_the_type_of_its_field(text, name, value):
    assert parse_setting(text) == (name, value) and type(parse_setting(text)[1]) is type(value)


def test_settings_reach_where_they_belong():
    method = make_method('partial', None, dict(map(parse_setting, [
        'max_stride=32', 'threshold=0.7', 'key_frame.format=webp', 'key_frame.quality=60',
        'always_offered=dog'])))
    assert method.name == 'partial' and method.server.always_offered == ('dog',)
    assert method.client.max_stride == 32 and method.server.threshold == 0.7
    assert (method.image_format, method.quality) == ('webp', 60)


@pytest.mark.parametrize('text, said', [
    ('learning_rat=1', 'learning_rat=1.*min_stride.*learning_rate.*key_frame.format'),
    ('min_stride', 'NAME=VALUE'), ('min_stride=4.5', "'4.5' is not an integer"),
    ('learning_rate=fast', "'fast' is not a finite number.*default"),
    ('learning_rate=-1', "'-1' is not a finite number, 0 or above"),
    ('update_timeout=inf', "'inf'"), ('encoding=fp8', 'fp8.*fp32'),
    ('late_update=never', 'never.*continue')])
def test_what_does_not_fit_is_named(text, said):
    with pytest.raises(SettingsError, match=said) as error:
        parse_setting(text)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('values, said', [
    ({'min_stride': 9, 'max_stride': 8}, 'min_stride is 9 and max_stride 8'),
    ({'min_stride': 0}, 'min_stride is 0'), ({'threshold': 1.0}, 'threshold is 1.0'),
    ({'key_frame.quality': 0}, 'quality is 0')])
def test_settings_that_cannot_work_are_refused(values, said):
    with pytest.raises(SettingsError, match=said):
        make_method('partial', None, values)


def test_the_papers_settings_leave_nothing_to_the_defaults():
    # A field added to the engine gets the value here that means 'as if it were not there'.
    assert set(PAPER_SETTINGS) == set(default_settings())
    for name, value in PAPER_SETTINGS.items():
        text = ','.join(value) if isinstance(value, tuple) else value
        assert parse_setting(f'{name}={text}') == (name, value)
    make_method('partial', 8, PAPER_SETTINGS)


def test_a_format_that_this_machine_lacks_is_refused_before_anything_is_run(monkeypatch):
    monkeypatch.setattr('shadowtutor_ros.wire.key_frame.has_avif', lambda: False)
    with pytest.raises(SettingsError, match='key_frame.format is avif: .*has no AVIF'):
        make_method('partial', None, {'key_frame.format': 'avif'})
    assert make_method('partial', None, {'key_frame.format': 'jpeg'}).image_format == 'jpeg'
