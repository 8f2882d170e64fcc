"""Examples of bodies and events, made from the JSON schemas of their models.

A field's own example is a `Field(examples=…)` of the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Json = dict[str, Any]

_IDS = {
    "job": "019ab2f4-6c1e-7d30-9a52-3f8e1c7b4d60",
    "image": "019ab2f4-6c1f-7b44-8e21-90d4a6f2c713",
    "picture": "019ab2f4-6c1f-7b44-8e21-90d4a6f2c713",
    "album": "019ab2f6-2b0c-7d11-9c40-5f2e7a90b3d8",
    "delivery": "019ab2f4-75d0-7e19-a3c8-6b1f2d904ae7",
    "webhook": "019ab2f0-1d7a-7c02-b6f3-5a9e04d2c881",
    "tenant": "019ab2e0-51c8-7a6e-8f10-2c7d93b4a5e1",
    "key": "019ab2e1-0b3d-7f52-a6c4-71e8d05f9b32",
}
"""By a word in the name of the field, or of the model whose field ``id`` it is."""
_FORMATS = {
    "date": "2026-11-24",
    "date-time": "2026-11-24T05:45:00.123456Z",
    "uuid": _IDS["job"],
}
_TYPES: Json = {"string": "…", "number": 1.0, "boolean": True, "object": {}, "null": None}


def example(schema: Json, schemas: Mapping[str, Json], name: str = "") -> Any:
    """A value that is true to the schema, whose references lead to ``schemas``.

    ``name`` is the field's. Nullable fields without an example of their own are null.
    """
    for word in ("examples", "const", "enum"):
        if word in schema:
            return schema[word] if word == "const" else schema[word][0]
    if "default" in schema:
        return schema["default"]
    if "$ref" in schema:
        return example(schemas[schema["$ref"].rpartition("/")[2]], schemas, name)
    kinds = schema.get("anyOf", schema.get("oneOf", ()))
    if kinds:
        null = any(kind.get("type") == "null" for kind in kinds)
        return None if null else example(kinds[0], schemas, name)
    if "properties" in schema:
        return _object(schema, schemas)
    if schema.get("type") == "array":
        return [example(schema["items"], schemas, name)]
    if schema.get("type") == "integer":
        return schema.get("minimum", 1)
    if schema.get("format") == "uuid":
        return next((id_ for word, id_ in _IDS.items() if word in name.lower()), _FORMATS["uuid"])
    return _FORMATS.get(schema.get("format", ""), _TYPES.get(schema.get("type", "")))


def _object(schema: Json, schemas: Mapping[str, Json]) -> Json:
    """Fields that are required, that have an example, or whose default is not null."""
    owner, required = schema.get("title", ""), schema.get("required", ())
    return {
        name: example(field, schemas, owner if name == "id" else name)
        for name, field in schema["properties"].items()
        if name in required or "examples" in field or field.get("default") not in (None, [])
    }


def request_examples(schema: Json, schemas: Mapping[str, Json]) -> Json:
    """Bodies of the required fields alone, and of all that have an example."""
    if "$ref" in schema:
        schema = schemas[schema["$ref"].rpartition("/")[2]]
    required = schema.get("required", ())
    fields = {
        name: example(field, schemas, name)
        for name, field in schema["properties"].items()
        if name in required or "examples" in field
    }
    least = {name: fields[name] for name in required}
    examples = {"Required fields": least, "Optional fields as well": fields}
    return {
        name: {"summary": name, "value": body}
        for name, body in examples.items()
        if body and (body != least or name == "Required fields")
    }


def merged(value: Any, changes: Any) -> Any:
    """The value with these fields changed, at any depth; lists change entry by entry."""
    if isinstance(value, dict) and isinstance(changes, dict):
        changed = {name: merged(value.get(name), change) for name, change in changes.items()}
        return {**value, **changed}
    if isinstance(value, list) and isinstance(changes, list) and len(value) == len(changes):
        return [merged(*each) for each in zip(value, changes, strict=True)]
    return changes
