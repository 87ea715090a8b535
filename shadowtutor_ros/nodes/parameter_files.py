"""
What is made from the tables of parameters: config/*.yaml and docs/parameters.md.

``python -m shadowtutor_ros.nodes.parameter_files`` writes them anew.
"""

from dataclasses import replace
import json
from pathlib import Path
import textwrap

from shadowtutor_ros.algorithms.presets import PRESETS
from shadowtutor_ros.nodes.camera_parameters import CAMERA
from shadowtutor_ros.nodes.parameters import Parameter, Value
from shadowtutor_ros.nodes.student_parameters import STUDENT
from shadowtutor_ros.nodes.teacher_parameters import TEACHER

_ORIGIN = 'Made by `python -m shadowtutor_ros.nodes.parameter_files` from the tables of the nodes.'

TABLES = {'student': STUDENT, 'teacher': TEACHER, 'camera': CAMERA}


def _yaml(value: Value) -> str:
    # JSON's flow style is YAML too, and quotes every string.
    return json.dumps(value)


def as_yaml(table: tuple[Parameter, ...]) -> str:
    """Write a parameter file: each parameter at its default, with its description."""
    lines = [f'# {_ORIGIN}', '/**:', '  ros__parameters:']
    group = ''
    for parameter in table:
        prefix, _, name = parameter.name.rpartition('.')
        if prefix and prefix != group:
            lines.append(f'    {prefix}:')
        group = prefix
        indent = '      ' if prefix else '    '
        lines.extend(f'{indent}# {line}' for line in textwrap.wrap(
            f'{parameter.text} ({parameter.type_name}{parameter.limits})', 90))
        lines.append(f'{indent}{name}: {_yaml(parameter.default)}')
    return '\n'.join(lines) + '\n'


def changed(preset: str, table: tuple[Parameter, ...]) -> tuple[Parameter, ...]:
    """Return the parameters of a node that a preset changes, with its values as defaults."""
    values = PRESETS[preset]
    return tuple(replace(parameter, default=values[parameter.name]) for parameter in table
                 if parameter.name in values)


def as_markdown() -> str:
    """Write the documentation of all parameters."""
    lines = [f'<!-- {_ORIGIN} -->', '', '# Parameters', '']
    lines += textwrap.wrap(
        'Those not marked *fixed* can be changed while the node runs, with `ros2 param set`. '
        'There and in YAML files 8 and 8.0 are the same number. '
        'Besides these, the quality of service of the topics in the tables of the README, but for '
        '`/diagnostics`, can be overridden with the standard `qos_overrides` parameters.', 99)
    for name, table in TABLES.items():
        lines += ['', f'## {name}_node', '']
        lines += ['| parameter | default | what it is |', '|---|---|---|']
        for parameter in table:
            fixed = ' *fixed*' if parameter.read_only else ''
            limits = f'; {parameter.type_name}{parameter.limits}'
            text = (parameter.text + limits).replace('|', '\\|')
            lines.append(f'| `{parameter.name}`{fixed} | `{_yaml(parameter.default)}` | {text} |')
    return '\n'.join(lines) + '\n'


def files() -> dict[str, str]:
    """Return what is made from the tables: the contents by path in the repository."""
    made = {f'config/{name}.yaml': as_yaml(table) for name, table in TABLES.items()}
    presets = {
        f'config/presets/{preset}/{name}.yaml': as_yaml(parameters)
        for preset in PRESETS for name, table in TABLES.items()
        if (parameters := changed(preset, table))}
    return {**made, **presets, 'docs/parameters.md': as_markdown()}


if __name__ == '__main__':
    for path, text in files().items():
        target = Path(__file__).parents[2] / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
