"""The servers that are compared, each with all it starts in a process group of its own."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import psutil

from loadtests.up import Up, short_folder
from serve.local.port import free_port
from serve.local.server import LAUNCHER

ROOT = Path(__file__).parents[2]
PEERS_PYTHON = ROOT / ".venv-peers/bin/python"
KEY = "peers-key-of-24-characters"
WIDE_BATCH = 32
"""Requests of which the calls of a mixed batch have several pictures each."""
_STOP_TIMEOUT_S = 20.0


class Arm(StrEnum):
    """Us, and the peers."""

    SFUMATO = "sfumato"
    PLAIN = "plain"
    GROUPED = "grouped"
    RAY_SERVE = "ray-serve"
    LITSERVE = "litserve"
    BENTOML = "bentoml"


STARTS_IN_S = {Arm.SFUMATO: 35, Arm.RAY_SERVE: 25, Arm.BENTOML: 15}
"""About, for the prediction; the others 10 s."""
_MODULES = {
    Arm.PLAIN: "plain",
    Arm.GROUPED: "grouped",
    Arm.RAY_SERVE: "ray_serve",
    Arm.LITSERVE: "lit",
    Arm.BENTOML: "bento",
}
_BATCHINGS: dict[Arm, dict[str, Sequence[str]]] = {
    Arm.SFUMATO: {"step batching": ()},
    Arm.PLAIN: {"none": ()},
    Arm.GROUPED: {"equal requests": ()},
    Arm.RAY_SERVE: {
        "as documented": (),
        "up to 32": (f"--batch={WIDE_BATCH}",),
        "a queue for each call": ("--by-call",),
    },
    Arm.LITSERVE: {"as documented": (), "up to 32": (f"--batch={WIDE_BATCH}",)},
    Arm.BENTOML: {"as documented": (), "up to 32": (f"--batch={WIDE_BATCH}",)},
}
"""The ways in which each may batch: as its documentation says, then as it did better for us."""
_SETTINGS = {
    "SFUMATO_SCALING__DIFFUSION_MIN": "1",
    "SFUMATO_SCALING__DIFFUSION_MAX": "1",
    "SFUMATO_DASHBOARD": "false",
    "SFUMATO_JOBS__MAX_WAIT_S": "100000",  # no peer refuses what will wait long
    "SFUMATO_JOBS__WAIT_TIMEOUT_S": "3600",
}


class ArmFailed(Exception):
    """It did not start, or did not draw; the message has its last words."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """One way to run an arm."""

    arm: Arm
    threads: int
    batching: str

    def __str__(self) -> str:
        plural = "thread" if self.threads == 1 else "threads"
        return f"{self.arm} ({self.batching}, {self.threads} {plural})"


@dataclass(frozen=True, slots=True)
class Address:
    """Where an arm listens, and how it is asked."""

    url: str
    key: str | None
    lists: bool
    """Whether a request and an answer are lists of one."""


def configurations(arm: Arm, threads: Sequence[int], *, documented: bool) -> list[Configuration]:
    """All that are tried for it; only those of its documentation if ``documented``."""
    batchings = list(_BATCHINGS[arm])[: 1 if documented else None]
    return [Configuration(arm, each, batching) for batching in batchings for each in threads]


@asynccontextmanager
async def running(configuration: Configuration) -> AsyncIterator[Address]:
    """Started, perhaps not yet ready; ended afterwards with everything that it began.

    Raises:
        ArmFailed: it cannot be started. If the body fails, the error has a note with the arm's
            last words.
    """
    folder = short_folder("peer")
    port = free_port()
    try:
        if configuration.arm is Arm.SFUMATO:
            service = _service(configuration, folder, port)
        else:
            service = _peer(configuration, folder, port)
        async with service as address:
            try:
                yield address
            except Exception as error:
                error.add_note(_last_words(folder))
                raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _environment() -> dict[str, str]:
    """Ours, without what would make a server another one than the one described."""
    unwanted = ("SFUMATO_", "DATABASE_URL", "REDIS_URL", "OMP_", "OTEL_", "SENTRY_", "RAY_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
    return {**kept, "PYTHONUNBUFFERED": "1", "RAY_USAGE_STATS_ENABLED": "0"}


@asynccontextmanager
async def _service(configuration: Configuration, folder: Path, port: int) -> AsyncIterator[Address]:
    up = Up(folder)
    up.environment = {
        **_environment(),
        **_SETTINGS,
        "SFUMATO_WORKER__THREADS": str(configuration.threads),
        "SFUMATO_DATA_DIR": str(up.data),
        "SFUMATO_PORT": str(port),
        "SFUMATO_API_KEY": KEY,
    }
    try:
        await up.start()
        yield Address(f"http://127.0.0.1:{port}", KEY, lists=False)
    finally:
        await up.stop()


@asynccontextmanager
async def _peer(configuration: Configuration, folder: Path, port: int) -> AsyncIterator[Address]:
    arm = configuration.arm
    foreign = arm in (Arm.LITSERVE, Arm.BENTOML)
    python = PEERS_PYTHON if foreign else Path(sys.executable)
    if not python.exists():
        raise ArmFailed(f"{arm} is not installed: `make peers` makes {PEERS_PYTHON.parent.parent}.")
    command = [
        *(str(python), "-m", f"loadtests.peers.{_MODULES[arm]}"),
        *(f"--port={port}", f"--threads={configuration.threads}"),
        *_BATCHINGS[arm][configuration.batching],
    ]
    # It gets SIGINT when this process ends, even if that is killed.
    launcher = [sys.executable, "-I", "-S", str(LAUNCHER), f"--parent={os.getpid()}"]
    with _log(folder).open("wb") as log:
        process = subprocess.Popen(  # noqa: ASYNC220 - milliseconds
            [*launcher, f"--death-signal={signal.SIGINT.value}", "--", *command],
            cwd=ROOT,
            env={**_environment(), "PYTHONPATH": str(ROOT), "HOME": str(folder)},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield Address(f"http://127.0.0.1:{port}", None, lists=arm is Arm.BENTOML)
    finally:
        await asyncio.to_thread(_end, process)


def _end(process: subprocess.Popen[bytes]) -> None:
    family = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    process.send_signal(signal.SIGINT)
    with suppress(subprocess.TimeoutExpired):
        process.wait(_STOP_TIMEOUT_S)
    for child in family:
        with suppress(psutil.NoSuchProcess):
            child.kill()
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _log(folder: Path) -> Path:
    return folder / "up.log"


def _last_words(folder: Path) -> str:
    lines = _log(folder).read_text(errors="replace").splitlines()
    return "\n".join(lines[-15:])
