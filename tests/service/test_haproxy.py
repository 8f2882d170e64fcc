"""`sfumato up` with HAProxy in front."""

from __future__ import annotations

import base64
import json
import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx2
import psutil
import pytest
from websockets.sync.client import connect

from loadtests.events.service import TERMINAL
from serve.cli.doctor import listeners
from serve.local.port import free_port
from tests.service.conftest import KEY, Service, short_folder, start
from tests.service.shared.test_desync import BODIES, ask_after_a_broken_promise

AUTHORIZED = {"Authorization": f"Bearer {KEY}"}
PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def fronted() -> Iterator[Service]:
    for folder in short_folder():
        settings = {"SFUMATO_HAPROXY": "true", "SFUMATO_SCALING__INGRESS_MIN": "2"}
        service = start(folder, free_port(), **settings)
        yield service
        assert service.stop() == 0, service.output


def haproxies(service: Service) -> list[psutil.Process]:
    return service.processes(lambda child: child.name() == "haproxy")


def generate(client: httpx2.Client, **headers: str) -> httpx2.Response:
    body = {"prompt": "red heart", "num_inference_steps": 2, "response_format": "b64_json"}
    return client.post("/v1/images/generations", json=body, headers=headers)


def test_pictures_come_and_serves_overrides_have_no_effect(fronted: Service) -> None:
    with fronted.client() as client:
        answer = generate(client, **{"x-request-timeout-seconds": "0.001"})
    assert answer.status_code == 200, answer.text
    assert base64.b64decode(answer.json()["data"][0]["b64_json"]).startswith(b"\x89PNG")
    assert "uvicorn" in answer.headers["server"]  # a replica's own, no proxy's in between
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_body_too_large_is_refused_before_it_has_come(fronted: Service) -> None:
    with fronted.client() as client:
        answer = client.post("/v1/jobs", content=(b"x" * 65536 for _ in range(3200)))
    assert answer.status_code == 413
    assert answer.json()["code"] == "body_too_large"


@pytest.mark.parametrize("owed", BODIES)
def test_a_body_that_is_promised_and_never_sent(fronted: Service, owed: int) -> None:
    ask_after_a_broken_promise(fronted, owed)


def test_headers_are_bounded_in_bytes_and_in_time(fronted: Service) -> None:
    with fronted.client() as client:
        ours = client.get("/health", headers={"x-filler": "x" * 20_000})
        its = client.get("/health", headers={f"x-{n}": "x" * 8_000 for n in range(5)})
    assert (ours.status_code, its.status_code) == (431, 400)
    with socket.create_connection(("127.0.0.1", fronted.port), timeout=PATIENCE_S) as slow:
        slow.sendall(b"GET /health HTTP/1.1\r\nHost: a\r\n")
        assert slow.recv(4096).startswith(b"HTTP/1.1 408 ")


def test_a_job_is_followed_to_its_end(fronted: Service) -> None:
    with (
        connect(
            f"ws://127.0.0.1:{fronted.port}/v1/events", additional_headers=AUTHORIZED
        ) as events,
        fronted.client() as client,
    ):
        assert not events.protocol.extensions  # asked for by default, and not granted
        events.send('{"type":"watch_all"}')
        job = client.post("/v1/jobs", json={"prompt": "red heart"}).json()["id"]
        until = time.monotonic() + PATIENCE_S
        told: list[str] = []
        while not told or told[-1] not in TERMINAL:
            event = json.loads(events.recv(timeout=until - time.monotonic()))
            if event["job_id"] == job:
                told.append(event["type"])
    assert told[-1] == "job.succeeded"


def test_what_haproxy_listens_on_is_on_loopback(fronted: Service) -> None:
    [haproxy] = haproxies(fronted)
    found = list(listeners(haproxy))
    assert fronted.port in {each.port for each in found}
    assert len(found) == 3  # its statistics and metrics beside it
    assert [each for each in found if not each.loopback] == []


def test_a_client_that_leaves_does_not_make_it_turn_in_circles(fronted: Service) -> None:
    with fronted.client() as client:
        for _ in range(8):
            with suppress(httpx2.TimeoutException):
                client.post(
                    "/v1/images/generations",
                    json={"prompt": "red heart", "num_inference_steps": 50, "n": 4},
                    timeout=0.3,
                )
    [haproxy] = haproxies(fronted)
    before, began = sum(haproxy.cpu_times()[:2]), time.monotonic()
    time.sleep(4)
    spent = sum(haproxy.cpu_times()[:2]) - before
    assert spent < 0.2 * (time.monotonic() - began), "a core's worth, where the fault is back"


def test_what_governs_it_is_in_nobodys_reach_but_ours(fronted: Service) -> None:
    [haproxy] = haproxies(fronted)
    command = haproxy.cmdline()
    config = Path(command[command.index("-f") + 1])
    folder = config.parents[1]  # Serve puts a node's name between
    assert folder.stat().st_mode & 0o077 == 0
    assert folder.stat().st_uid == os.geteuid()
    sockets = re.findall(r"/\S+\.sock", config.read_text())
    assert {Path(each).parents[1] for each in sockets} == {folder}


def test_a_killed_haproxy_comes_back(fronted: Service) -> None:
    [haproxy] = haproxies(fronted)
    haproxy.kill()
    assert_it_draws_again(fronted)


def test_with_a_killed_manager_another_comes_and_none_is_left(fronted: Service) -> None:
    """One that stayed would take connections for replicas of which it hears no more."""
    [before] = haproxies(fronted)
    [manager] = fronted.processes(lambda child: "ray::HAProxyManager" in child.cmdline()[0])
    manager.kill()
    assert_it_draws_again(fronted)
    assert not before.is_running()


def assert_it_draws_again(service: Service) -> None:
    """Whatever is answered until then says that it is worth asking again."""
    until = time.monotonic() + PATIENCE_S
    said: list[httpx2.Response] = []
    with service.client() as client:
        while not (said and said[-1].status_code == 200) and time.monotonic() < until:
            with suppress(httpx2.TransportError):
                said.append(generate(client))
            time.sleep(0.2)
    *refusals, last = said
    assert last.status_code == 200
    assert {each.status_code for each in refusals} <= {502, 503}
    for each in refusals:
        assert each.headers["content-type"] == "application/problem+json"
        assert each.json()["code"] == each.json()["error"]["code"] == "unavailable"
