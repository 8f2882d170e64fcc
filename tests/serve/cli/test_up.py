"""What stops `sfumato up` before it has started anything."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from serve.cli.up import _prepare, check_port, run
from serve.local.errors import StartFailed
from serve.local.port import free_port
from serve.settings import Settings


@pytest.fixture(params=["127.0.0.1", "::1"])
def taken(request: pytest.FixtureRequest) -> Iterator[Settings]:
    """Settings whose port somebody listens on."""
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    try:
        listener = socket.create_server((request.param, 0), family=family)
    except OSError:
        pytest.skip(f"this machine has no {request.param}")
    with listener:
        yield Settings(host=request.param, port=listener.getsockname()[1])


def test_a_port_that_is_taken(taken: Settings) -> None:
    with pytest.raises(StartFailed, match=f"Port {taken.port} of {taken.host} is taken: stop"):
        check_port(taken)


def test_a_port_that_is_free_stays_free(taken: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
    free = taken.model_copy(update={"port": port})
    check_port(free)
    check_port(free)


def test_an_address_of_another_machine() -> None:
    with pytest.raises(StartFailed, match="set SFUMATO_HOST to an address of this machine"):
        check_port(Settings(host="192.0.2.1", port=8000))


@pytest.fixture
def free(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path, port=free_port())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": {"path": "/no/such"}}, "SFUMATO_MODEL__PATH: There is no model folder"),
        ({"model": {"max_pixels": 64}}, "SFUMATO_MODEL__MAX_PIXELS: 64 pixels are fewer than"),
        ({"model": {"loras": {"ink": "/no/ink"}}}, "SFUMATO_MODEL__LORAS: there is no file '/no/i"),
        (
            {"model": {"controlnets": {"e": "/no"}}},
            "SFUMATO_MODEL__CONTROLNETS: there is no f",
        ),
        ({"model": {"device": "cuda:99"}}, "SFUMATO_MODEL__DEVICE: "),
        (
            {"model": {"device": "cpu"}, "speed": {"attention": "xformers"}},
            "SFUMATO_SPEED__…: xformers needs a CUDA device",
        ),
        ({"models": {"sdxl": {"path": "/no/such"}}}, "SFUMATO_MODELS (sdxl.path): There is no mod"),
        ({"scaling": {"diffusion_cpus": 9999}}, "lower SFUMATO_SCALING__DIFFUSION_CPUS"),
        ({"worker": {"threads": 1024}}, "SFUMATO_WORKER__THREADS is 1024, and more threads than"),
        ({"scaling": {"diffusion_gpus": 99}}, "lower SFUMATO_SCALING__DIFFUSION_GPUS"),
        ({"moderation": {"blocklist": "/no/such"}}, "SFUMATO_MODERATION__BLOCKLIST: /no/such"),
        ({"moderation": {"classifier": "no_such:X"}}, "SFUMATO_MODERATION__CLASSIFIER: no_such:X"),
        ({"storage_url": "file:///proc/x"}, "Check SFUMATO_STORAGE_URL"),
        ({"database_url": "postgresql://a@127.0.0.1:1/x"}, "Postgres at 127.0.0.1:1/x cannot be"),
        ({"redis_url": "redis://127.0.0.1:1"}, "REDIS_URL"),
    ],
)
def test_what_a_start_lacks_is_told_before_anything_starts(
    free: Settings, capsys: pytest.CaptureFixture[str], change: dict[str, object], message: str
) -> None:
    values = {"data_dir": free.data_dir, "port": free.port, **change}
    assert run(Settings.model_validate(values)) == 1
    output = capsys.readouterr().out
    assert message in output
    assert output.startswith("✗ ")
    assert not (free.data_dir / "postgres").exists()


def test_a_key_that_is_cut_short_is_told_with_its_file(
    free: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    (free.data_dir / "api_key").write_text("sfm_cut\n")
    assert run(free) == 1
    assert f"{free.data_dir}/api_key holds no key of 24 characters" in capsys.readouterr().out


def test_brackets_in_a_path_are_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "[red]").write_text("no folder")
    assert run(Settings(data_dir=tmp_path / "[red]" / "[/bold]", port=free_port())) == 1
    assert "/[red]/[/bold]" in capsys.readouterr().out


async def test_an_empty_key_file_is_filled(free: Settings, database_url: str) -> None:
    file = free.data_dir / "api_key"
    file.touch(mode=0o644)
    settings = free.model_copy(update={"database_url": SecretStr(database_url)})
    key = (await _prepare(settings)).api_key
    assert key is not None
    assert file.read_text().strip() == key.get_secret_value()
    assert file.stat().st_mode & 0o777 == 0o600


RAY = """
import sys
from contextlib import ExitStack
from pathlib import Path
from serve.cli.up import start_ray
from serve.settings import Settings
with ExitStack() as parts:
    settings = Settings(data_dir=Path(sys.argv[1]), port=int(sys.argv[2]), dashboard=False)
    logs = Path(start_ray(settings, parts).logs)
    import ray
    print(ray.get_runtime_context().gcs_address, len(ray.nodes()))
    print("MemoryMonitor disabled" in (logs.parent / "raylet.out").read_text())
"""


@pytest.mark.service
def test_a_ray_of_its_own_that_no_neighbour_ends(tmp_path: Path) -> None:
    """Even where RAY_ADDRESS, as a shell may have it for another purpose, leads to another."""
    another = f"127.0.0.1:{free_port()}"
    result = subprocess.run(
        [sys.executable, "-c", RAY, str(tmp_path), str(free_port())],
        env={**os.environ, "RAY_ADDRESS": another},
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    address, nodes, without_monitor = result.stdout.split()
    assert (address != another, nodes, without_monitor) == (True, "1", "True")
