"""`sfumato up` starts after one that was killed."""

from __future__ import annotations

import signal
from pathlib import Path

import httpx2
import psutil
import pytest

from serve.local.port import free_port
from tests.service.conftest import start


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
