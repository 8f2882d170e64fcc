"""Every object is valid by the schema of its kind, in which unknown fields are errors."""

from __future__ import annotations

import copy
import json
from typing import Any

import kubernetes_validate
import pytest
from jsonschema import Draft202012Validator

from tests.k8s.manifests import ROOT, Json, Manifests, walk

KUBERNETES = "1.34"
RAY_SERVICE = json.loads((ROOT / "tests/data/kuberay/rayservice.json").read_text())


def obj(fields: Json, *required: str) -> Json:
    return {
        "type": "object",
        "properties": fields,
        "required": list(required),
        "additionalProperties": False,
    }


def array(item: Json) -> Json:
    return {"type": "array", "items": item, "minItems": 1}


TEXT: Json = {"type": "string", "minLength": 1}
TEXTS: Json = {"type": "object", "additionalProperties": TEXT}
PORT: Json = {"type": "integer", "minimum": 1, "maximum": 65535}
DURATION: Json = {"type": "string", "pattern": r"^([0-9]{1,5}(h|m|s|ms)){1,4}$"}
SELECTOR = obj(
    {
        "matchLabels": TEXTS,
        "matchExpressions": array(
            obj(
                {"key": TEXT, "operator": {"enum": ["In"]}, "values": array(TEXT)},
                *("key", "operator", "values"),
            )
        ),
    }
)
QUANTITIES = {"type": "object", "additionalProperties": {"type": ["string", "integer"]}}
CUSTOM: dict[tuple[str, str], Json] = {
    ("postgresql.cnpg.io/v1", "Cluster"): obj(
        {
            "instances": {"type": "integer", "minimum": 1},
            "imageName": TEXT,
            "bootstrap": obj({"initdb": obj({"database": TEXT, "owner": TEXT})}),
            "storage": obj({"size": TEXT, "storageClass": TEXT}, "size"),
            "resources": obj({"requests": QUANTITIES, "limits": QUANTITIES}),
        },
        *("instances", "imageName", "storage"),
    ),
    ("gateway.networking.k8s.io/v1", "HTTPRoute"): obj(
        {
            "parentRefs": array(obj({"name": TEXT, "namespace": TEXT}, "name")),
            "hostnames": array(TEXT),
            "rules": array(
                obj(
                    {
                        "matches": array(
                            obj(
                                {
                                    "path": obj(
                                        {
                                            "type": {"enum": ["Exact", "PathPrefix"]},
                                            "value": {"type": "string", "pattern": "^/"},
                                        },
                                        *("type", "value"),
                                    )
                                }
                            )
                        ),
                        "timeouts": obj({"request": DURATION, "backendRequest": DURATION}),
                        "backendRefs": array(obj({"name": TEXT, "port": PORT}, "name", "port")),
                    },
                    *("matches", "backendRefs"),
                )
            ),
        },
        *("parentRefs", "rules"),
    ),
    ("monitoring.coreos.com/v1", "PodMonitor"): obj(
        {
            "selector": SELECTOR,
            "podMetricsEndpoints": array(
                obj({"port": TEXT, "path": {"const": "/metrics"}, "interval": DURATION}, "port")
            ),
        },
        *("selector", "podMetricsEndpoints"),
    ),
    ("monitoring.coreos.com/v1", "PrometheusRule"): obj(
        {
            "groups": array(
                obj(
                    {
                        "name": TEXT,
                        "interval": DURATION,
                        "rules": array(
                            {
                                "oneOf": [
                                    obj(
                                        {"record": TEXT, "labels": TEXTS, "expr": TEXT},
                                        *("record", "expr"),
                                    ),
                                    obj(
                                        {
                                            "alert": TEXT,
                                            "for": DURATION,
                                            "expr": TEXT,
                                            "labels": TEXTS,
                                            "annotations": TEXTS,
                                        },
                                        *("alert", "expr"),
                                    ),
                                ]
                            }
                        ),
                    },
                    *("name", "rules"),
                )
            )
        },
        "groups",
    ),
}
"""Of other operators' kinds the fields that we use, as their documentation has them."""


def faults(schema: Json, value: Any) -> list[str]:
    found = Draft202012Validator(schema).iter_errors(value)
    return [f"{error.json_path}: {error.message}" for error in found]


def check(each: Json) -> list[str]:
    """What is wrong with one object."""
    kind = each["apiVersion"], each["kind"]
    if kind == ("ray.io/v1", "RayService"):
        return faults(RAY_SERVICE, each) + [
            fault for template in templates(each) for fault in builtin(template)
        ]
    if kind in CUSTOM:
        return faults(CUSTOM[kind], each["spec"])
    return builtin(each)


def templates(ray_service: Json) -> list[Json]:
    """The pod templates within, as objects of Kubernetes' own."""
    config = ray_service["spec"]["rayClusterConfig"]
    groups = [config["headGroupSpec"], *config["workerGroupSpecs"]]
    meta = {"name": "of-ray"}
    return [
        {"apiVersion": "v1", "kind": "PodTemplate", "metadata": meta, "template": group["template"]}
        for group in groups
    ]


def builtin(each: Json) -> list[str]:
    try:
        kubernetes_validate.validate(each, KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [f"{each['kind']} {list(error.path)}: {error.message}"]
    return []


def test_every_object_is_valid(manifests: Manifests) -> None:
    found = {
        f"{each['kind']}/{each['metadata']['name']}": check(each) for each in manifests.objects
    }
    assert found == {name: [] for name in found}
    assert len(found) > 12


def test_every_object_is_in_the_namespace(manifests: Manifests) -> None:
    for each in manifests.objects:
        if each["kind"] != "Namespace":
            assert each["metadata"]["namespace"] == "sfumato", each["metadata"]["name"]
    assert (
        manifests.named("Namespace", "sfumato")["metadata"]["labels"][
            "pod-security.kubernetes.io/enforce"
        ]
        == "restricted"
    )


@pytest.mark.parametrize("kind", ["RayService", "Job", "NetworkPolicy", "Cluster", "Service"])
def test_an_unknown_field_is_found(manifests: Manifests, kind: str) -> None:
    """The schemas are strict at the top, and as deep as containers are."""
    each = manifests.of(kind)[0]
    wrong = copy.deepcopy(each)
    wrong["spec"]["replicasss"] = 1
    assert check(wrong) != []
    holders = [holder for holder in walk(each) if "containers" in holder]
    for index, _ in enumerate(holders):
        wrong = copy.deepcopy(each)
        holder = [found for found in walk(wrong) if "containers" in found][index]
        holder["containers"][0]["imagePulPolicy"] = "Always"
        assert check(wrong) != []
