"""A running service exposes what the dashboards ask for."""

from __future__ import annotations

import re
from collections import defaultdict

import httpx2
import websockets.sync.client
from prometheus_client.parser import text_string_to_metric_families

from loadtests.monitoring.dashboards import dashboards
from tests.loadtests.monitoring.expressions import known
from tests.service.conftest import KEY, Service, wait_for

ELSEWHERE = re.compile(
    "ray_sfumato_device_"  # a GPU
    "|kubelet_"
    "|ray_sfumato_(damaged_files|events_dropped|leases_lost|picture_crashes|steps_discarded"
    "|webhook_attempts|workers_reaped)_total"  # what has not happened is not counted
)
"""Of the names in dashboards, those that a healthy service on a CPU does not expose."""


def asked() -> set[str]:
    """Each metric that a dashboard names; ``level:…`` are recorded by Prometheus itself."""
    queries = [
        query
        for board in dashboards()
        for panel in board.panels
        for query in panel.queries.values()
    ]
    return {
        name for query in queries for name in re.findall(r"(?<![:\w])(?:ray_|sfumato_)\w+", query)
    }


def exposed(service: Service) -> dict[str, set[str]]:
    """Every metric with the labels that any of its series has."""
    found: dict[str, set[str]] = defaultdict(set)
    for url in (f"{service.url}/metrics", *service.ray_endpoints()):
        try:
            text = httpx2.get(url, timeout=30, trust_env=False).text
        except httpx2.ConnectError:  # Ray names ports of the autoscaler too, which may not run
            continue
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                found[sample.name] |= set(sample.labels)
    return found


def test_what_dashboards_ask_for_is_exposed(service: Service) -> None:
    with service.client() as client:
        client.get("/v1/images/none")  # a refusal
        with websockets.sync.client.connect(
            service.url.replace("http", "ws") + "/v1/events",
            additional_headers={"Authorization": f"Bearer {KEY}"},
            proxy=None,
        ) as socket:
            socket.send('{"type": "watch_all"}')
            answer = client.post("/v1/images/generations", json={"prompt": "red heart"})
            answer.raise_for_status()
            socket.recv(timeout=30)
    wanted = {name for name in asked() if not ELSEWHERE.match(name)}
    labels, found = known(), dict[str, set[str]]()

    def all_found() -> bool:
        """Ray's agent hears from a process now and then, and tells some of it once."""
        for name, of_name in exposed(service).items():
            found.setdefault(name, set()).update(of_name)
        return wanted <= found.keys()

    wait_for("all are exposed", all_found)
    absent = {name: labels[name] - found[name] for name in wanted}
    assert {name: missing for name, missing in absent.items() if missing} == {}
