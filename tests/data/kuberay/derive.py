"""Derives rayservice.json from KubeRay's CRD: python derive.py ray.io_rayservices.yaml

Of version v1 it keeps what decides whether an object is valid, and refuses unknown fields, which
the API server would drop. Pod templates are left out: Kubernetes' own schema checks them.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml

POD_TEMPLATES = "template"


def derived(crd: Any) -> Any:
    """The JSON schema of a RayService."""
    (version,) = (each for each in crd["spec"]["versions"] if each["name"] == "v1")
    schema = strict(version["schema"]["openAPIV3Schema"])
    del schema["properties"]["status"]
    schema["properties"]["metadata"] = {"type": "object"}
    return schema


def strict(schema: Any) -> Any:
    """The schema without descriptions, and with no more fields than it names."""
    if isinstance(schema, list):
        return [strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {
        key: strict(value)
        for key, value in schema.items()
        if key != "description" and not key.startswith("x-")
    }
    if isinstance(properties := schema.get("properties"), dict):
        kept["properties"] = {
            name: {"type": "object"} if name == POD_TEMPLATES else strict(value)
            for name, value in properties.items()
        }
        kept["additionalProperties"] = False
        # The API server fills in defaults first.
        required = [
            name for name in schema.get("required", []) if "default" not in properties[name]
        ]
        kept.pop("required", None)
        if required:
            kept["required"] = required
    return kept


if __name__ == "__main__":
    json.dump(
        derived(yaml.safe_load(Path(sys.argv[1]).read_text())),
        sys.stdout,
        separators=(",", ":"),
        sort_keys=True,
    )
