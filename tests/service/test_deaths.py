"""Killed processes lose nothing."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import httpx2
import psutil
import pytest

from serve.local.port import free_port
from tests.service.conftest import Service, start
from tests.service.test_events import open_socket, watch


def test_a_killed_diffusion_replica_loses_no_picture(service: Service) -> None:
    body = {"prompt": "a cat", "n": 2, "num_inference_steps": 150, "seed": 9}
    with service.client() as client, open_socket(service) as socket:
        job = client.post("/v1/jobs", json=body).json()
        until = time.monotonic() + 120
        while client.get(f"/v1/jobs/{job['id']}").json()["state"] != "running":
            assert time.monotonic() < until
            time.sleep(0.05)
        (replica,) = service.replicas("Diffusion")
        replica.send_signal(signal.SIGKILL)
        until = time.monotonic() + 300
        while job["state"] in ("queued", "running"):
            assert time.monotonic() < until, job
            time.sleep(0.5)
            job = client.get(f"/v1/jobs/{job['id']}").json()
        assert job["state"] == "succeeded", job
        assert [image["state"] for image in job["images"]] == ["succeeded"] * 2
        events = [event["type"] for event in watch(socket, job["id"])]
        assert events.count("image.succeeded") == 2
        assert events[-1] == "job.succeeded"
        assert service.replicas("Diffusion")[0].pid != replica.pid


def test_a_second_up_says_that_one_runs(service: Service) -> None:
    second = service.run("up")
    assert second.returncode == 1
    assert "runs already" in second.stdout
    assert str(service.process.pid) in second.stdout


def test_a_killed_up_leaves_nothing_that_the_next_cannot_clean(folder: Path) -> None:
    first = start(folder, free_port())
    with first.client() as client:
        body = {"prompt": "a star", "num_inference_steps": 4}
        assert client.post("/v1/images/generations", json=body).status_code == 200
    family = psutil.Process(first.process.pid).children(recursive=True)
    assert first.stop(signal.SIGKILL) == -signal.SIGKILL
    second = start(folder, first.port)
    try:
        with second.client() as client:
            (image,) = client.get("/v1/images").json()["data"]
            assert client.get(image["variants"][0]["url"]).status_code == 200
        assert [process for process in family if alive(process)] == []
    finally:
        status = second.stop()
    assert status == 0, second.output
    assert "Stopped." in second.output
    with pytest.raises(httpx2.HTTPError):
        httpx2.get(f"{second.url}/health", timeout=2)


def alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
