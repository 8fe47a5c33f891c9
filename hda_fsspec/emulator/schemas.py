"""The schema of a data set's queries: how it is written, and how a query is judged by it.

It knows JSON schemas as the service writes them; it has never seen a product.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

#: Keys that every search may have, whatever the schema says.
PAGING_KEYS = ("dataset_id", "itemsPerPage", "startIndex", "sortOrder")

#: A short form of one parameter: a full property, a type name, or the choices of a string.
Parameter = Mapping[str, Any] | str | Sequence[str]

#: The property of a box: W, S, E, N in degrees.
BBOX = {
    "type": "array",
    "items": [{"minimum": -180}, {"minimum": -90}, {"maximum": 180}, {"maximum": 90}],
}


def choices(values: Iterable[str]) -> list[dict[str, str]]:
    """Return the ``oneOf`` list of some choices."""
    return [{"const": value, "title": value} for value in values]


def parameter(given: Parameter) -> dict[str, Any]:
    """Return the full property of a parameter.

    >>> parameter("number")
    {'type': 'number'}
    >>> parameter(["NR", "NT"])["oneOf"][0]["const"]
    'NR'
    """
    if isinstance(given, Mapping):
        return dict(given)
    if isinstance(given, str):
        return {"type": given}
    return {"type": "string", "oneOf": choices(given)}


def multiple_choice(values: Iterable[str]) -> dict[str, Any]:
    """Return the property of a parameter that takes a list of choices."""
    return {"type": "array", "items": {"oneOf": choices(values)}}


def build_schema(
    dataset_id: str,
    *,
    date_keys: tuple[str, str] | None,
    has_bbox: bool,
    parameters: Mapping[str, Parameter],
    required: Sequence[str],
) -> dict[str, Any]:
    """Return the schema of a data set as ``dataaccess/queryable`` answers it."""
    properties: dict[str, Any] = {
        "dataset_id": {"type": "string", "title": "dataset_id", "oneOf": choices([dataset_id])}
    }
    properties.update({name: parameter(given) for name, given in parameters.items()})
    for key in date_keys or ():
        properties[key] = {"type": "string", "title": key, "format": "date-time"}
    if has_bbox:
        properties["bbox"] = BBOX
    properties["itemsPerPage"] = {"type": "number"}
    properties["startIndex"] = {"type": "number"}
    return {
        "type": "object",
        "title": "Queryable",
        "properties": properties,
        "required": list(required),
        "constraints": [],
    }


def find_fault(
    schema: Mapping[str, Any], query: Mapping[str, Any], *, takes_single_values: bool = False
) -> tuple[str, str, str] | None:
    """Return the first key of a query that the schema refuses, with a message and its kind.

    With ``takes_single_values`` a text does in the place of a list.
    """
    properties = schema.get("properties", {})
    for key, value in query.items():
        if value is None:
            return key, "none is not an allowed value", "type_error.none.not_allowed"
        if key in properties and key != "dataset_id":
            is_list = key != "bbox" and properties[key].get("type") == "array"
            is_single = takes_single_values and is_list and isinstance(value, str)
            complaint = _complaint(key, properties[key], [value] if is_single else value)
            if complaint is not None:
                return key, *complaint
        elif key not in PAGING_KEYS:
            return key, "extra fields not permitted", "value_error.extra"
    return None


def _complaint(key: str, schema: Mapping[str, Any], value: object) -> tuple[str, str] | None:
    if key == "bbox":
        return None if _is_bbox(value) else ("not a list of W, S, E, N", "value_error.bbox")
    kind = schema.get("type")
    if kind == "number" and not _is_number(value):
        return "value is not a valid number", "type_error.number"
    if kind == "string" and not isinstance(value, str):
        return "str type expected", "type_error.str"
    if kind == "array":
        if not isinstance(value, list):
            return "value is not a valid list", "type_error.list"
        return _choice_complaint(schema.get("items"), value)
    return _choice_complaint(schema, [value])


def _choice_complaint(schema: object, values: Sequence[object]) -> tuple[str, str] | None:
    if not isinstance(schema, Mapping) or "oneOf" not in schema:
        return None
    allowed = [choice.get("const") for choice in schema["oneOf"]]
    if all(value in allowed for value in values):
        return None
    return f"value is not one of {allowed[:20]}", "value_error.const"


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_bbox(value: object) -> bool:
    if not isinstance(value, list) or len(value) != 4 or not all(_is_number(v) for v in value):
        return False
    west, south, east, north = value
    return bool(-180 <= west <= 180 and -180 <= east <= 180 and -90 <= south <= north <= 90)
