"""
The settings of an evaluation by the names that the nodes' parameters have.

They are read off the data classes of client, server and key-frame coding, so that a field added
there can be set here too.
"""

from dataclasses import fields
import math
from typing import Any

from shadowtutor_ros.algorithms.client import ClientSettings, LATE_UPDATE
from shadowtutor_ros.algorithms.server import ServerSettings
from shadowtutor_ros.algorithms.striding import MAX_STRIDE, MAX_UPDATES, MIN_STRIDE, THRESHOLD
from shadowtutor_ros.algorithms.student_training import REPLAY_CHOICES
from shadowtutor_ros.evaluation.simulate import Method
from shadowtutor_ros.wire.encodings import ENCODINGS
from shadowtutor_ros.wire.key_frame import CHOICES, format_fault

#: The first implementation's settings, all of them, whatever the defaults are: what it did not
#: have is off.
PAPER_SETTINGS = {
    'min_stride': MIN_STRIDE,
    'max_stride': MAX_STRIDE,
    'late_update': 'wait',
    'update_timeout': 3600.0,
    'stride_rate': 0.0,
    'drift': 0.0,
    'still': 0.0,
    'still_stride': 512,
    'threshold': THRESHOLD,
    'training_target': 0.0,
    'max_updates': MAX_UPDATES,
    'learning_rate': 0.01,
    'object_weight': 5.0,
    'scope': 'partial',
    'replay': 0,
    'replay_choice': 'random',
    'replay_memory': 16,
    'replay_megabytes': 1e6,
    'variants': 0,
    'seen_classes': False,
    'always_offered': (),
    'share': 1.0,
    'plain': True,
    'seed': 0,
    'encoding': 'fp32',
    'training_seconds': 0.0,
    'places_megabytes': 0.0,
    'key_frame.format': 'raw',
    'key_frame.quality': 90,
    'key_frame.max_width': 0,
}

_CHOICES = {
    'late_update': LATE_UPDATE, 'replay_choice': REPLAY_CHOICES, 'encoding': tuple(ENCODINGS),
    'key_frame.format': CHOICES}

_NOT_CODING = ('name', 'update_delay', 'client', 'server')


class SettingsError(ValueError):
    """What is wrong with a setting, in one line."""


def _parameter(kind: type, field_name: str) -> str:
    """Return the name of the node's parameter for a field."""
    if kind is not Method:
        return field_name
    return 'key_frame.' + field_name.removeprefix('image_')


#: For each name the data class, its field, and the default.
_FIELDS = {
    _parameter(kind, field.name): (kind, field.name, field.default)
    for kind in (ClientSettings, ServerSettings, Method) for field in fields(kind)
    if not (kind is Method and field.name in _NOT_CODING)}


def default_settings() -> dict[str, Any]:
    """Return all settings at their defaults, by name."""
    return {name: default for name, (_, _, default) in _FIELDS.items()}


def parse_setting(text: str) -> tuple[str, Any]:
    """
    Read a setting of the command line.

    :param text: NAME=VALUE.
    :returns: the name and the value, which has the type of the field.
    :raises SettingsError: if there is no such setting, or the value does not fit.
    """
    name, equals, value = text.partition('=')
    name = name.strip()
    if not equals or name not in _FIELDS:
        raise SettingsError(
            f"--set '{text}' is not NAME=VALUE with one of the names {', '.join(_FIELDS)}")
    default = _FIELDS[name][2]
    kind = type(default)
    try:
        parsed = _parse(value.strip(), kind)
    except ValueError:
        raise SettingsError(
            f"--set {name}: '{value}' is not {_describe(kind)}; the default is {default}"
        ) from None
    choices = _CHOICES.get(name, (parsed,))
    if parsed not in choices:
        raise SettingsError(
            f"--set {name}: '{value}' is unknown: choose one of {', '.join(choices)}")
    return name, parsed


def make_method(name: str, update_delay: int | None, settings: dict[str, Any]) -> Method:
    """
    Make a method of settings.

    :param name, update_delay: as in :class:`Method`.
    :param settings: values by name; those that are missing have their defaults.
    :raises SettingsError: if the settings contradict one another.
    """
    values = {**default_settings(), **settings}
    low, high = values['min_stride'], values['max_stride']
    if not 1 <= low <= high:
        raise SettingsError(
            f'min_stride is {low} and max_stride {high}: give 1 or above, the larger one last')
    if not 0 < values['threshold'] < 1:
        raise SettingsError(f"threshold is {values['threshold']}: give a number between 0 and 1")
    if not values['training_target'] <= 1:
        raise SettingsError(
            f"training_target is {values['training_target']}: give a number from 0 to 1")
    if not 1 <= values['key_frame.quality'] <= 100:
        raise SettingsError(f"key_frame.quality is {values['key_frame.quality']}: give 1 to 100")
    if fault := format_fault(values['key_frame.format']):
        raise SettingsError(f"key_frame.format is {values['key_frame.format']}: {fault}")

    def of(wanted: type) -> dict[str, Any]:
        return {field: values[key] for key, (kind, field, _) in _FIELDS.items()
                if kind is wanted}

    try:
        return Method(
            name, update_delay, ClientSettings(**of(ClientSettings)),
            ServerSettings(**of(ServerSettings)), **of(Method))
    except ValueError as error:
        raise SettingsError(str(error)) from None


def _parse(text: str, kind: type) -> Any:
    """Turn text into a value of a type; raise ValueError if it is none."""
    if kind is bool:
        return ('false', 'true').index(text.lower()) == 1
    if kind is tuple:
        return tuple(filter(None, map(str.strip, text.split(','))))
    value = kind(text)
    # No setting is below 0, and infinity is none either.
    if kind in (int, float) and not 0 <= value < math.inf:
        raise ValueError
    return value


def _describe(kind: type) -> str:
    names = {bool: 'true or false', int: 'an integer, 0 or above',
             float: 'a finite number, 0 or above'}
    return names.get(kind, str(kind))
