"""Every name that an object refers to is in the render, or the operator makes it."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.k8s.manifests import OVERLAYS, ROOT, Manifests, render, selects, walk

DOCUMENT = (ROOT / "docs/deployment.md").read_text()
TRY_OUT = (ROOT / "k8s/kind-up.md").read_text()
GENERIC = re.compile(r"create secret generic (\S+)((?:[\s\\]+--from-literal=\S+)+)")
TLS = re.compile(r"create secret tls (\S+)")
MADE_BY_CNPG = ("username", "password", "uri")


def given(document: str) -> dict[str, set[str]]:
    """The Secrets that a document has one make, each with its keys."""
    generic = {
        name: set(re.findall(r"--from-literal=([\w-]+)=", literals))
        for name, literals in GENERIC.findall(document)
    }
    return generic | {name: {"tls.crt", "tls.key"} for name in TLS.findall(document)}


def asked_secrets(manifests: Manifests) -> Iterator[tuple[str, str]]:
    for each in walk(manifests.objects):
        if reference := each.get("secretKeyRef"):
            yield reference["name"], reference["key"]
        if "secretName" in each:
            yield each["secretName"], "tls.crt"


def test_no_secret_is_written_down(manifests: Manifests) -> None:
    assert manifests.of("Secret") == []
    for each in walk(manifests.objects):
        name = str(each.get("name", ""))
        if "value" in each and re.search(r"PASSWORD|SECRET|TOKEN|_KEY|_URL", name):
            raise AssertionError(f"{name} has a value in place")
    for config in manifests.of("ConfigMap"):
        text = "\n".join(config["data"].values())
        assert not re.search(r"(?i)password|api_key|secret|://[^/\s]*@", text)


@pytest.mark.parametrize(
    ("name", "document"), [*((name, DOCUMENT) for name in OVERLAYS), ("cpu-demo", TRY_OUT)]
)
def test_every_secret_is_made_by_someone(name: str, document: str) -> None:
    manifests = render(f"overlays/{name}")
    known = given(document)
    if document is DOCUMENT:
        assert known["sfumato-db-app"] == {"uri"}, "for a Postgres of one's own"
    for cluster in manifests.of("Cluster"):
        known[f"{cluster['metadata']['name']}-app"] = set(MADE_BY_CNPG)
    asked = set(asked_secrets(manifests))
    assert asked, "there are secrets"
    assert {(secret, key) for secret, key in asked if key not in known.get(secret, set())} == set()


def test_every_config_and_volume_is_there(manifests: Manifests) -> None:
    configs = {
        each["metadata"]["name"]
        for each in manifests.of("ConfigMap")
        if "grafana_dashboard" not in each["metadata"].get("labels", {})  # which no pod mounts
    }
    claims = {each["metadata"]["name"] for each in manifests.of("PersistentVolumeClaim")}
    asked_configs, asked_claims = set(), set()
    for each in walk(manifests.objects):
        for key in ("configMap", "configMapRef", "configMapKeyRef"):
            if isinstance(each.get(key), dict):
                asked_configs.add(each[key]["name"])
        if claim := each.get("persistentVolumeClaim"):
            asked_claims.add(claim["claimName"])
        assert "serviceAccountName" not in each
    assert asked_configs == configs
    assert asked_claims == claims


def test_services_select_pods(manifests: Manifests) -> None:
    for service in manifests.of("Service"):
        selector = {"matchLabels": service["spec"]["selector"]}
        (pod,) = (pod for pod in manifests.pods() if selects(selector, pod.labels))
        names = {port["name"] for port in pod.containers[0]["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= names
    redis = manifests.cluster["gcsFaultToleranceOptions"]["redisAddress"]
    name, _, port = redis.partition(":")
    assert int(port) in [each["port"] for each in manifests.named("Service", name)["spec"]["ports"]]


@pytest.mark.parametrize("document", [DOCUMENT, TRY_OUT], ids=["deployment", "kind-up"])
def test_commands_name_what_is_there(manifests: Manifests, document: str) -> None:
    for job in re.findall(r"job/([\w-]+)", document):
        assert manifests.named("Job", job)
    for service in re.findall(r"rayservice[/ ]([\w-]+)", document):
        assert manifests.named("RayService", service)
    for overlay in re.findall(r"k8s/overlays/([\w-]+)", document):
        assert (ROOT / "k8s/overlays" / overlay / "kustomization.yaml").exists()
