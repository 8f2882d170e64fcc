"""The service within the cluster is this one: its version, settings, variables and routes."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from fastapi import APIRouter
from fastapi.routing import APIWebSocketRoute
from ray.dashboard.http_server_agent import PUBLIC_EXACT_PATHS
from ray.serve import Application
from ray.serve._private.proxy_request_response import ASGIProxyRequest
from ray.serve.schema import ServeDeploySchema
from starlette.routing import Route

from serve.api.app import create_app
from serve.api.services import open_services
from serve.app import build_app
from serve.cli.up import PROXY_LAYERS, RAY_DEFAULTS
from serve.environment import read_settings
from serve.settings import Settings
from tests.k8s.manifests import ROOT, Json, Manifests, selects

SERVERS: Json = {"database_url": "postgresql://db/sfumato", "redis_url": "redis://bus"}
FROM_SECRETS = {
    "DATABASE_URL": SERVERS["database_url"],
    "REDIS_URL": SERVERS["redis_url"],
    "SFUMATO_API_KEY": "k" * 32,
}
OTHER_ON_A_CLUSTER = {"RAY_memory_monitor_refresh_ms"}
"""In a pod Ray's memory monitor counts the pod's memory, not a neighbour's."""
AGENT_PORT = 52365
SERVE_PORT = 8000
HIDDEN = {"/metrics"}
PREFIX = {"Exact": False, "Prefix": True, "PathPrefix": True}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("SFUMATO_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("DATABASE_URL", SERVERS["database_url"])


@functools.cache
def routes() -> frozenset[str]:
    """The paths of the app."""
    app = create_app(open_services(Settings(**SERVERS)))
    return frozenset(paths(app.router))


def paths(router: APIRouter) -> Iterator[str]:
    for route in router.routes:
        if (included := getattr(route, "original_router", None)) is not None:
            yield from paths(included)
        else:
            assert isinstance(route, Route | APIWebSocketRoute)
            yield route.path


def test_ray_is_of_the_locked_version(manifests: Manifests) -> None:
    locked = re.search(r"^ray==(.+)$", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert locked is not None
    assert manifests.cluster["rayVersion"] == locked[1]


def test_serve_is_configured_as_by_serve_deploy(manifests: Manifests) -> None:
    own = yaml.safe_load((ROOT / "serve_config.yaml").read_text())
    assert ServeDeploySchema(**manifests.serve_config) == ServeDeploySchema(**own)


@pytest.fixture
def settings(manifests: Manifests, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """As a replica reads them: the file, below the variables."""
    file = tmp_path / "sfumato.yaml"
    file.write_text(yaml.safe_dump(manifests.settings))
    monkeypatch.setenv("SFUMATO_CONFIG", str(file))
    for name, value in FROM_SECRETS.items():
        monkeypatch.setenv(name, value)
    return read_settings()


def test_the_application_binds_with_the_settings(manifests: Manifests, settings: Settings) -> None:
    (application,) = manifests.serve_config["applications"]
    assert application["import_path"] == f"{build_app.__module__}:{build_app.__name__}"
    assert isinstance(build_app(application["args"]), Application)
    assert str(settings.data_dir) == manifests.settings["data_dir"]


def test_workers_have_the_gpus_that_replicas_may_ask_for(
    manifests: Manifests, settings: Settings
) -> None:
    asked = sum(pool.max * (pool.gpus or 0) for pool in settings.served_pools.values())
    has = 0
    for group in manifests.cluster["workerGroupSpecs"]:
        (container,) = group["template"]["spec"]["containers"]
        has += group["maxReplicas"] * int(container["resources"]["limits"].get("nvidia.com/gpu", 0))
    assert asked == has


def test_variables_are_settings(
    manifests: Manifests, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = {**manifests.environment}
    for pod, _ in manifests.ray_groups():
        (container,) = pod.containers
        secrets = {each["name"] for each in container["env"]}
        assert secrets >= FROM_SECRETS.keys(), pod.name
        assert all("secretKeyRef" in each["valueFrom"] for each in container["env"]), pod.name
        variables |= dict.fromkeys(secrets, "s" * 32)
    variables |= FROM_SECRETS
    # Where the file is; the settings in it are tested above.
    assert variables.pop("SFUMATO_CONFIG") == "/etc/sfumato/sfumato.yaml"
    for name, value in variables.items():
        if name.startswith("SFUMATO_"):
            monkeypatch.setenv(name, value)
    assert read_settings() == settings, "which come from the file, the secrets excepted"


def test_ray_has_the_variables_of_up(manifests: Manifests) -> None:
    wanted = {name: value for name, value in RAY_DEFAULTS.items() if name not in OTHER_ON_A_CLUSTER}
    wanted["RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"] = PROXY_LAYERS
    assert {name: manifests.environment.get(name) for name in wanted} == wanted
    assert not OTHER_ON_A_CLUSTER & manifests.environment.keys()


def test_the_settings_are_where_the_variable_says(manifests: Manifests) -> None:
    for pod, _ in manifests.ray_groups():
        (container,) = pod.containers
        mounts = {each["mountPath"]: each["name"] for each in container["volumeMounts"]}
        volumes = {each["name"]: each for each in pod.spec["volumes"]}
        config = volumes[mounts["/etc/sfumato"]]["configMap"]["name"]
        assert "sfumato.yaml" in manifests.named("ConfigMap", config)["data"]


def test_probes_ask_what_answers_without_a_key(manifests: Manifests) -> None:
    for pod, _ in manifests.ray_groups():
        for kind in ("readinessProbe", "livenessProbe"):
            asked = pod.containers[0][kind]["httpGet"]
            if asked["port"] == AGENT_PORT:
                assert asked["path"] in PUBLIC_EXACT_PATHS, "of Ray's agent"
            else:
                assert asked["port"] == SERVE_PORT
                assert asked["path"] in routes() or is_serves_own(asked["path"]), pod.name


def is_serves_own(path: str) -> bool:
    """Whether Serve's proxy itself answers it."""
    scope = {"type": "http", "path": path, "root_path": "", "method": "GET", "headers": []}
    return ASGIProxyRequest(scope, None, None).is_health_request  # type: ignore[arg-type]


def ways_in(manifests: Manifests) -> list[tuple[str, str, int, list[tuple[str, bool]]]]:
    """Of each HTTPRoute and Ingress its name, backend, port, and paths with whether a prefix."""
    found = []
    for route in manifests.of("HTTPRoute"):
        for rule in route["spec"]["rules"]:
            (backend,) = rule["backendRefs"]
            matches = [match["path"] for match in rule["matches"]]
            asked = [(path["value"], PREFIX[path["type"]]) for path in matches]
            found.append(("HTTPRoute", backend["name"], backend["port"], asked))
    for ingress in manifests.of("Ingress"):
        for rule in ingress["spec"]["rules"]:
            matches = rule["http"]["paths"]
            (name,) = {path["backend"]["service"]["name"] for path in matches}
            (port,) = {path["backend"]["service"]["port"]["number"] for path in matches}
            asked = [(path["path"], PREFIX[path["pathType"]]) for path in matches]
            found.append(("Ingress", name, port, asked))
    return found


def leads(path: str, prefix: bool, route: str) -> bool:
    return route == path or (prefix and route.startswith(f"{path}/"))


def test_the_way_in_leads_to_every_route_but_the_metrics(
    manifests: Manifests, overlay: str
) -> None:
    ways = ways_in(manifests)
    expected = {"cpu-demo": [], "single-gpu": ["Ingress"], "pools": ["HTTPRoute"]}
    assert [kind for kind, *_ in ways] == expected[overlay]
    for _, backend, port, asked in ways:
        served = {f"{manifests.ray_service['metadata']['name']}-serve-svc"}
        assert {backend} == served, "as KubeRay calls it"
        assert port == manifests.serve_config["http_options"]["port"] == SERVE_PORT
        known = routes()
        for path, prefix in asked:
            assert any(leads(path, prefix, route) for route in known), path
        open_ = {route for route in known if any(leads(*way, route) for way in asked)}
        assert known - open_ == HIDDEN


def test_monitors_ask_ports_that_pods_have(manifests: Manifests, overlay: str) -> None:
    monitors = manifests.of("PodMonitor")
    assert bool(monitors) is (overlay == "pools")
    for monitor in monitors:
        spec = monitor["spec"]
        pods = [pod for pod in manifests.pods() if selects(spec["selector"], pod.labels)]
        assert pods, monitor["metadata"]["name"]
        for pod in pods:
            ports = {port["name"]: port["containerPort"] for port in pod.containers[0]["ports"]}
            for endpoint in spec["podMetricsEndpoints"]:
                if ports[endpoint["port"]] == SERVE_PORT:
                    assert endpoint["path"] in routes()
