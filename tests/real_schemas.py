"""Schemas written the way the service writes them."""

from __future__ import annotations

from typing import Any

import pytest

from hda_fsspec.errors import QueryError
from hda_fsspec.schema.schema import Schema

Query = dict[str, tuple[str, ...]]

DATE: dict[str, Any] = {"type": "string", "format": "date-time"}

TEXT: dict[str, Any] = {"type": "string", "pattern": "[\\w-]+"}

BOX: dict[str, Any] = {
    "type": "array",
    "items": [{"minimum": -180}, {"minimum": -90}, {"maximum": 180}, {"maximum": 90}],
}

COMMON: dict[str, Any] = {
    "dataset_id": {"type": "string", "oneOf": [{"const": "EO:X", "title": "EO:X"}]},
    "itemsPerPage": {"type": "number"},
    "startIndex": {"type": "number"},
}


def one_of(*values: Any, **more: Any) -> dict[str, Any]:
    """Write a choice the way the service does."""
    choices = [
        value if isinstance(value, dict) else {"const": value, "title": str(value)}
        for value in values
    ]
    return {"type": "string", "oneOf": choices, **more}


def many_of(*values: Any) -> dict[str, Any]:
    """Write a list with choices the way the service does."""
    return {"type": "array", "items": {"oneOf": [{"const": v, "title": str(v)} for v in values]}}


def schema(properties: dict[str, Any], **more: Any) -> Schema:
    """Write a schema the way the service does."""
    document = {"type": "object", "title": "Queryable", "properties": {**properties, **COMMON}}
    return Schema.from_queryable("EO:X", {**document, "required": ["dataset_id"], **more})


def refused(schema: Schema, query: Query) -> QueryError:
    """Return the error with which a query is refused."""
    with pytest.raises(QueryError) as caught:
        schema.request(query)
    return caught.value


def in_the_real_style(body: dict[str, Any]) -> Schema:
    """Write the schema which a recorded request was made by."""
    properties: dict[str, Any] = {}
    for key, value in body.items():
        if key == "bbox":
            properties[key] = BOX
        elif isinstance(value, list):
            properties[key] = many_of("a_decoy", *value)
        elif isinstance(value, (int, float)):
            properties[key] = {"type": "number", "title": key, "default": 1}
        elif "T" in value and value.endswith("Z"):
            properties[key] = DATE
        elif key == "productIdentifier":
            properties[key] = TEXT
        else:
            properties[key] = one_of("a_decoy", value, default="a_decoy")
    return schema(properties)
