"""The whole service, started as a user starts it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx2
import psutil
import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from pipelines.embedded import MODEL_PATH

START_TIMEOUT_S = 300.0
STOP_TIMEOUT_S = 90.0
PATIENCE_S = 240.0
KEY = "a-key-of-24-characters-or-more"
COMMAND = str(Path(sys.executable).with_name("sfumato"))
LIVE = "FROM images WHERE state IN ('queued', 'running')"


class ByService(LoadScopeScheduling):  # type: ignore[misc]
    """One process runs all that share a service: the tests of a file, and those of `shared`."""

    def _split_scope(self, nodeid: str) -> str:
        file = Path(nodeid.partition("::")[0])
        return str(file.parent if file.parent.name == "shared" else file)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByService:
    return ByService(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.service)


@dataclass
class Service:
    """A running `sfumato up`."""

    process: subprocess.Popen[bytes]
    port: int
    folder: Path
    environment: dict[str, str]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def output(self) -> str:
        return (self.folder / "up.log").read_text()

    @property
    def ray_logs(self) -> Path:
        """The folder of all that Ray and Serve write; `sfumato up` tells Serve's part of it."""
        (of_serve,) = re.findall(r"^  Logs +(\S+)$", self.output, re.MULTILINE)
        return Path(of_serve).parent

    def ray_endpoints(self) -> list[str]:
        """The URLs that Ray names for Prometheus' service discovery, on loopback."""
        found = self.ray_logs.parent / "prom_metrics_service_discovery.json"
        targets = [each for group in json.loads(found.read_text()) for each in group["targets"]]
        return [f"http://127.0.0.1:{target.rpartition(':')[2]}/metrics" for target in targets]

    def client(self) -> httpx2.Client:
        return httpx2.Client(
            base_url=self.url, headers={"Authorization": f"Bearer {KEY}"}, timeout=120
        )

    def replicas(self, deployment: str) -> list[psutil.Process]:
        """The processes of a deployment."""
        title = f"ray::ServeReplica:sfumato:{deployment}"
        return self.processes(lambda child: any(p.startswith(title) for p in child.cmdline()))

    def processes(self, which: Callable[[psutil.Process], bool]) -> list[psutil.Process]:
        """Those of them all that are meant."""
        found = []
        for child in psutil.Process(self.process.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):  # it may end while we look; a zombie has
                if which(child):
                    found.append(child)
        return found

    def metric(self, name: str) -> float:
        """The sum of a metric over its labels."""
        text = httpx2.get(f"{self.url}/metrics", timeout=30).text
        lines = re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE)
        return sum(float(value) for value in lines)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Another `sfumato` command beside the service."""
        return subprocess.run(
            [COMMAND, *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def stop(self, name: signal.Signals = signal.SIGINT) -> int:
        self.process.send_signal(name)
        return self.process.wait(STOP_TIMEOUT_S)


def start(folder: Path, port: int, command: str = COMMAND, **settings: str) -> Service:
    """Run `sfumato up` and wait for its word that it is ready."""
    environment = {
        **os.environ,
        "SFUMATO_PORT": str(port),
        "SFUMATO_API_KEY": KEY,
        "SFUMATO_DATA_DIR": str(folder / "data"),
        "SFUMATO_MODELS": json.dumps({"twin": {"path": str(MODEL_PATH), "default_steps": 6}}),
        "PYTHONUNBUFFERED": "1",
        **settings,
    }
    for unwanted in ("DATABASE_URL", "REDIS_URL", "OMP_NUM_THREADS"):
        environment.pop(unwanted, None)
    with (folder / "up.log").open("wb") as log:
        process = subprocess.Popen(
            [command, "up"], cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT
        )
    service = Service(process, port, folder, environment)
    until = time.monotonic() + START_TIMEOUT_S
    while "Sfumato is ready" not in service.output:
        if process.poll() is not None or time.monotonic() > until:
            process.kill()
            pytest.fail(f"`sfumato up` did not start:\n{service.output}")
        time.sleep(0.2)
    return service


def wait_for(what: str, condition: Callable[[], bool]) -> None:
    """Look again and again until it is so."""
    until = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < until, f"not in {PATIENCE_S:g} s: {what}"
        time.sleep(0.2)


@pytest.fixture
def folder() -> Iterator[Path]:
    yield from short_folder()


def short_folder() -> Iterator[Path]:
    """A folder with a short path that the database's own account may enter."""
    with tempfile.TemporaryDirectory(prefix="sfumato-", dir="/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)
