"""The service out of the images' wheel, without the repository, judged by the images' own check."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from serve.local.port import free_port
from tests.images.dockerfile import DOCKERFILES, Dockerfile
from tests.images.wheel import build_wheel, install_wheel
from tests.service.conftest import Service, start


def test_it_starts_and_draws(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = tmp_path_factory.mktemp("wheel")
    commands = install_wheel(build_wheel(built), built)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    port = free_port()
    service = start(folder, port, command=str(commands / "sfumato"))
    try:
        for dockerfile in DOCKERFILES:
            assert health(dockerfile, commands, service) == 0
        with service.client() as client:
            assert client.get("/").is_success
            assert client.get("/docs").is_success
            body = {"prompt": "red heart", "num_inference_steps": 2}
            assert client.post("/v1/images/generations", json=body).is_success
    finally:
        assert service.stop() == 0, service.output
    assert health("Dockerfile", commands, service) == 1


def health(dockerfile: str, commands: Path, service: Service) -> int:
    python, *rest = Dockerfile.named(dockerfile).last["HEALTHCHECK"].command
    command = [str(commands / python), *rest]
    return subprocess.run(
        command, env=service.environment, capture_output=True, timeout=30, check=False
    ).returncode
