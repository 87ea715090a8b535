"""The parameters of a node: one table makes the declaration, the YAML file and the docs."""

from array import array
from dataclasses import dataclass
from typing import Any, Callable

from rcl_interfaces.msg import (
    FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult)
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node
import rclpy.parameter

Value = bool | int | float | str | list[str]

# How a value of each type is written, in a YAML file and behind ``ros2 param set``.
_WRITTEN = {
    'bool': 'true or false', 'integer': 'such as 8', 'double': 'such as 0.5',
    'string': 'in quotes where it looks like a number',
    'string array': "such as ['a', 'b'], or [''] for none"}


class ParameterError(ValueError):
    """A parameter with a wrong type or value, or one that another contradicts."""


@dataclass(frozen=True)
class Parameter:
    """
    A parameter of a node.

    :ivar name: as ``ros2 param`` sees it.
    :ivar default: its type is the type of the parameter.
    :ivar text: what it is, with the unit.
    :ivar range: the lowest and the highest value of a number.
    :ivar choices: the values that a string may have.
    :ivar read_only: whether it is fixed at the start.
    """

    name: str
    default: Value
    text: str
    range: tuple[float, float] | None = None
    choices: tuple[str, ...] = ()
    read_only: bool = False

    @property
    def type_name(self) -> str:
        """Its type, as the documentation of ROS 2 calls it."""
        if isinstance(self.default, list):
            return 'string array'
        return {bool: 'bool', int: 'integer', float: 'double', str: 'string'}[type(self.default)]

    @property
    def limits(self) -> str:
        """Its choices or its range, as they are put behind its type; empty if it has none."""
        if self.choices:
            return f": {', '.join(self.choices)}"
        if self.range:
            return ' from {} to {}'.format(*self.range)
        return ''

    def typed(self, value: Any) -> Value:
        """
        Return a value in the type of this parameter: 8 is a double too, and 8.0 an integer.

        :raises ParameterError: if it has another type.
        """
        kind = type(self.default)
        if kind is float and type(value) is int or (
                kind is int and type(value) is float and value.is_integer()):
            return kind(value)
        if type(value) is not kind or kind is list and not (
                value and all(isinstance(item, str) for item in value)):
            # rclpy gives None for an empty list of a YAML file and for what is to be deleted, and
            # an array for numbers.
            given = repr(value.tolist() if isinstance(value, array) else value)
            if value is None:
                given = '[]' if kind is list else 'without a value'
            raise ParameterError(
                f'{self.name} is {given}: expected {self.type_name}{self.limits}, '
                f'{_WRITTEN[self.type_name]}')
        return value

    def fault(self, value: Value) -> str | None:
        """Say what is wrong with a value that has the right type; None if nothing is."""
        if self.choices and value not in self.choices:
            return f"{self.name} is '{value}': expected one of {', '.join(self.choices)}"
        if self.range and not self.range[0] <= value <= self.range[1]:
            return (f'{self.name} is {value}: expected {self.type_name} from {self.range[0]} to '
                    f'{self.range[1]}')
        return None


DEVICE = Parameter(
    'device', 'auto', "where PyTorch computes: 'cpu', 'cuda', 'cuda:1', or 'auto' for CUDA where "
    'there is one', read_only=True)
THREADS = Parameter(
    'threads', 0, 'CPU threads for PyTorch; 0: its own choice, one per core. Where nodes share a '
    'computer, give each fewer: otherwise they slow one another down', (0, 256),
    read_only=True)
WEIGHTS = Parameter(
    'weights', '', "file with the student's initial weights, .safetensors or .pth, or 'shadow' or "
    "'shadow-s' for those in this package; empty: 'shadow'. Must be the same on robot and "
    'workstation', read_only=True)


class Parameters:
    """
    The declared parameters of a node, with values that are always valid together.

    :param node: declares them, with ranges and descriptions.
    :param table: of the node.
    :param fault: looks at all values together and says what is wrong, None if nothing is.
    :param apply: is handed all values at the start and after every change.
    :raises ParameterError: if a value given at the start is wrong.
    """

    def __init__(
            self, node: Node, table: tuple[Parameter, ...],
            fault: Callable[[dict[str, Value]], str | None] = lambda values: None,
            apply: Callable[[dict[str, Value]], None] = lambda values: None):
        self._table = {parameter.name: parameter for parameter in table}
        self._fault = fault
        self._apply = apply
        self.values = {parameter.name: _declare(node, parameter) for parameter in table}
        problem = self._problem(self.values)
        if problem:
            raise ParameterError(problem)
        apply(self.values)
        # A callback that validates should have no effect, but Humble has no callback for after
        # the set; there the only callback that validates is this one, so what it accepts is set.
        self._has_post_set = hasattr(node, 'add_post_set_parameters_callback')
        node.add_on_set_parameters_callback(self._validate)
        if self._has_post_set:
            node.add_post_set_parameters_callback(self._accept)

    def __getitem__(self, name: str) -> Value:
        return self.values[name]

    def _problem(self, values: dict[str, Value]) -> str | None:
        problems = [parameter.fault(values[name]) for name, parameter in self._table.items()]
        return next(filter(None, problems), None) or self._fault(values)

    def _changed(self, parameters: list) -> dict[str, Value]:
        changes = {p.name: p.value for p in parameters if p.name in self._table}
        return {**self.values, **changes}

    def typed(self, parameters: list) -> list:
        """
        Return parameters in the types of the table; those that are not in it as they are.

        :raises ParameterError: if one has a wrong type or value, or is fixed.
        """
        typed = []
        for parameter in parameters:
            if declared := self._table.get(parameter.name):
                if declared.read_only:
                    raise ParameterError(
                        f'{declared.name} is fixed while the node runs: set it where the node is '
                        'started, in params_file or as an argument')
                value = declared.typed(parameter.value)
                if problem := declared.fault(value):
                    raise ParameterError(problem)
                parameter = rclpy.parameter.Parameter(declared.name, value=value)
            typed.append(parameter)
        return typed

    def _validate(self, parameters: list) -> SetParametersResult:
        problem = self._problem(self._changed(parameters))
        if problem:
            return SetParametersResult(successful=False, reason=problem)
        if not self._has_post_set:
            self._accept(parameters)
        return SetParametersResult(successful=True)

    def _accept(self, parameters: list) -> None:
        self.values = self._changed(parameters)
        self._apply(self.values)


class ParameterNode(Node):
    """
    A node with such parameters, which converts and checks what they are set to.

    rclpy compares types and ranges before it calls anybody, in words of its own; here numbers are
    taken as they are written, and all else is named with what was expected.

    :ivar parameters: made by the node itself.
    """

    parameters: Parameters

    def set_parameters_atomically(self, parameter_list: list) -> SetParametersResult:
        """Set all of them or, where one is wrong, none; services of parameters come here too."""
        try:
            return super().set_parameters_atomically(self.parameters.typed(parameter_list))
        except ParameterError as error:
            return SetParametersResult(successful=False, reason=str(error))

    def set_parameters(self, parameter_list: list) -> list[SetParametersResult]:
        """Set them one after the other."""
        return [self.set_parameters_atomically([parameter]) for parameter in parameter_list]


def _declare(node: Node, parameter: Parameter) -> Value:
    descriptor = ParameterDescriptor(
        description=parameter.text, read_only=parameter.read_only,
        additional_constraints=(
            f"one of {', '.join(parameter.choices)}" if parameter.choices else ''))
    if parameter.range and isinstance(parameter.default, int):
        low, high = map(int, parameter.range)
        descriptor.integer_range = [IntegerRange(from_value=low, to_value=high, step=1)]
    elif parameter.range:
        low, high = map(float, parameter.range)
        descriptor.floating_point_range = [FloatingPointRange(from_value=low, to_value=high)]
    try:
        return node.declare_parameter(parameter.name, parameter.default, descriptor).value
    except InvalidParameterTypeException:
        given = node.declare_parameter(
            parameter.name, parameter.default, ParameterDescriptor(dynamic_typing=True)).value
        node.undeclare_parameter(parameter.name)
        value = parameter.typed(given)
    except InvalidParameterValueException as error:
        raise ParameterError(
            f'{error}; {parameter.name} is: {parameter.text}, {parameter.type_name}'
            f'{parameter.limits}') from None
    if problem := parameter.fault(value):
        raise ParameterError(problem)
    return node.declare_parameter(
        parameter.name, value, descriptor, ignore_override=True).value
