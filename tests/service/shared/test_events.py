"""What a WebSocket client sees of a job."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from typing import Any

from websockets.sync.client import ClientConnection, connect

from loadtests.events import raw
from loadtests.events.service import Service as Target
from tests.service.conftest import KEY, Service


def open_socket(service: Service) -> ClientConnection:
    return connect(
        f"{service.url.replace('http', 'ws')}/v1/events",
        additional_headers={"Authorization": f"Bearer {KEY}"},
    )


def watch(socket: ClientConnection, job_id: str, after: int = 0) -> list[dict[str, Any]]:
    """Every message until the job's terminal event."""
    socket.send(json.dumps({"type": "watch", "job_id": job_id, "after": after}))
    seen: list[dict[str, Any]] = []
    while not seen or seen[-1]["type"] not in ("job.succeeded", "job.failed", "job.cancelled"):
        seen.append(json.loads(socket.recv(timeout=60)))
    return seen


def test_progress_with_previews_comes_in_order_and_is_replayed_without(service: Service) -> None:
    body = {"prompt": "a house", "num_inference_steps": 120, "seed": 5}
    with service.client() as client, open_socket(service) as socket:
        job_id = client.post("/v1/jobs", json=body).json()["id"]
        seen = watch(socket, job_id)
    durable = [event for event in seen if event["type"] != "image.progress"]
    progress = [event["data"] for event in seen if event["type"] == "image.progress"]
    assert [(event["seq"], event["type"]) for event in durable] == [
        (1, "job.queued"),
        (2, "job.running"),
        (3, "image.succeeded"),
        (4, "job.succeeded"),
    ]
    steps = [event["step"] for event in progress]
    assert steps == sorted(set(steps)), "progress never goes back"
    assert {event["steps"] for event in progress} == {120}
    assert any(event.get("preview", "").startswith("data:image/webp") for event in progress)
    first_progress = next(i for i, e in enumerate(seen) if e["type"] == "image.progress")
    assert seen.index(durable[1]) < first_progress < seen.index(durable[2])

    with open_socket(service) as late:
        assert watch(late, job_id) == durable
        assert watch(late, job_id, after=2) == durable[2:]


def test_who_talks_without_end_is_cut_off(service: Service) -> None:
    """What is said faster than it is understood piles up in no process."""
    before = memory_while_talking(service, seconds=1)
    assert memory_while_talking(service, seconds=15) - before < 64 * 2**20


def memory_while_talking(service: Service, seconds: float) -> int:
    """Bytes that the ingress and what stands before it hold after so many seconds of it, on one
    connection after another."""
    message = raw.frame(b'{"type":"ack","messages":0}')
    front = service.processes(lambda child: "ray::ProxyActor" in child.cmdline()[:1])
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with raw.open_socket(Target(service.url, KEY)) as talker, suppress(ConnectionError):
            talker.settimeout(60)
            while time.monotonic() < until:
                talker.sendall(message * 1000)
    processes = [*service.replicas("Ingress"), *front]
    return sum(process.memory_info().rss for process in processes)
