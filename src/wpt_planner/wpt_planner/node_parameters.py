"""PlannerParameters as ROS parameters: declared with type, range and description, read once."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError
from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter

from wpt_planner.parameters import PlannerParameters, bounds

_TYPES = {
    bool: Parameter.Type.BOOL,
    int: Parameter.Type.INTEGER,
    float: Parameter.Type.DOUBLE,
    str: Parameter.Type.STRING,
    list: Parameter.Type.STRING_ARRAY,  # an empty list would become BYTE_ARRAY
}
# rclpy's own, which may stand in every node's file.
_ROS_PARAMETERS = ("use_sim_time", "start_type_description_service", "qos_overrides")


class ParameterError(ValueError):
    """A parameter that cannot be used: name, value, what was expected."""


def read_parameters(node: Node) -> PlannerParameters:
    """Declares every parameter and reads what the launch or the parameter file gave.

    Raises ParameterError for an unknown name, a wrong type or a value out of range.
    """
    values: dict[str, Any] = {}
    for name, field in PlannerParameters.model_fields.items():
        default = field.default
        try:
            declared = node.declare_parameter(name, default, _descriptor(name))
        except InvalidParameterTypeException as error:
            raise ParameterError(f"parameter {name}: {error}".replace("\n", " ")) from None
        except InvalidParameterValueException:
            given = node._parameter_overrides[name].value
            lowest, highest = bounds(name)
            raise ParameterError(
                f"parameter {name} is {given}, expected {lowest} to {highest} ({field.description})"
            ) from None
        values[name] = declared.value
    known = set(values)
    for name in node._parameter_overrides:
        if name not in known and not name.startswith(_ROS_PARAMETERS):
            raise ParameterError(f"parameter {name} is unknown; config/planner.yaml lists all of them")
    try:
        parameters = PlannerParameters.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise ParameterError(f"parameter {name} is {first['input']!r}: {first['msg']}") from None
    _check(parameters)
    return parameters


def refuse_changes(node: Node) -> None:
    """Parameters are read at start: a later change is refused with the reason, not ignored."""

    def refuse(changed: list[Parameter]) -> SetParametersResult:
        ours = [p.name for p in changed if p.name in PlannerParameters.model_fields]
        if ours:
            return SetParametersResult(
                successful=False, reason=f"{ours[0]} is read at start: restart the node to change it"
            )
        return SetParametersResult(successful=True)

    node.add_on_set_parameters_callback(refuse)


def _check(parameters: PlannerParameters) -> None:
    for index, name in enumerate(parameters.cameras):
        if not name:
            raise ParameterError(f"parameter cameras[{index}] is empty")
    if len(set(parameters.cameras)) != len(parameters.cameras):
        raise ParameterError("parameter cameras names a camera twice")
    if parameters.anchor_camera not in parameters.cameras:
        raise ParameterError(
            f"parameter anchor_camera is '{parameters.anchor_camera}', expected one of "
            f"{', '.join(parameters.cameras)}"
        )


def _descriptor(name: str) -> ParameterDescriptor:
    field = PlannerParameters.model_fields[name]
    kind = _TYPES[type(field.default)]
    descriptor = ParameterDescriptor(description=field.description or "", type=kind.value)
    lowest, highest = bounds(name)
    if lowest is not None and highest is not None:
        if kind == Parameter.Type.DOUBLE:
            descriptor.floating_point_range = [
                FloatingPointRange(from_value=float(lowest), to_value=float(highest))
            ]
        elif kind == Parameter.Type.INTEGER:
            descriptor.integer_range = [IntegerRange(from_value=int(lowest), to_value=int(highest))]
    return descriptor
