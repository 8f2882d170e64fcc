"""A real Prometheus, which scrapes a running service and evaluates the rules."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import yaml

from loadtests.chaos.processes import ray_logs
from loadtests.monitoring.dashboards import RULES
from loadtests.up import StartFailed, short_folder
from serve.local.port import free_port
from serve.local.server import LAUNCHER

SCRAPE_S = 2
_START_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = 10.0
_DEBIAN = Path(sys.prefix) / "prometheus/usr/bin"
"""Where `make prometheus` puts both programs."""
_RAY_TARGETS = "prom_metrics_service_discovery.json"

Series = dict[str, Any]
"""``metric``: the labels; ``values``: pairs of a Unix time and a number as text."""


def program(name: str) -> str | None:
    """``prometheus`` or ``promtool``: this machine's own, or what `make prometheus` brought."""
    return shutil.which(name, path=f"{os.environ['PATH']}{os.pathsep}{_DEBIAN}")


@dataclass(frozen=True)
class Prometheus:
    """A running one."""

    client: httpx2.AsyncClient

    async def alerts(self) -> dict[str, str]:
        """``pending`` or ``firing`` by alert; of several by the same name, the last one's."""
        found = await self._ask("alerts")
        return {each["labels"]["alertname"]: each["state"] for each in found["alerts"]}

    async def summaries(self) -> list[str]:
        """Of what fires now."""
        found = await self._ask("alerts")
        return [
            f"{each['labels']['alertname']}: {each['annotations']['summary']}"
            for each in found["alerts"]
            if each["state"] == "firing"
        ]

    async def series(self, expression: str, seconds: float) -> list[Series]:
        """What the expression was in the last ``seconds``, at each scrape."""
        now = time.time()
        found = await self._ask(
            "query_range", query=expression, start=now - seconds, end=now, step=SCRAPE_S
        )
        series: list[Series] = found["result"]
        return series

    async def _ask(self, what: str, **query: str | float) -> Any:
        answer = await self.client.get(f"/api/v1/{what}", params=query)
        body = answer.json()
        if body["status"] != "success":
            raise ValueError(f"Prometheus refuses {query}: {body['error']}")
        return body["data"]


@asynccontextmanager
async def scraping(url: str, root: int) -> AsyncIterator[Prometheus]:
    """One that scrapes the service at ``url``, whose `sfumato up` is process ``root``.

    Raises:
        StartFailed: there is none on this machine, or it did not come up.
    """
    command = program("prometheus")
    if command is None:
        raise StartFailed("There is no Prometheus: `make prometheus` gets Debian's.")
    folder, address = short_folder("prometheus"), f"127.0.0.1:{free_port()}"
    configuration = folder / "prometheus.yml"
    configuration.write_text(yaml.safe_dump(_configuration(url, root)))
    process = _spawn(
        [
            *(command, f"--config.file={configuration}", f"--web.listen-address={address}"),
            f"--storage.tsdb.path={folder / 'data'}",
        ],
        folder / "log",
    )
    try:
        async with httpx2.AsyncClient(
            base_url=f"http://{address}", timeout=30, trust_env=False
        ) as client:
            await _until_ready(client, process)
            yield Prometheus(client)
    finally:
        process.terminate()
        try:
            await asyncio.to_thread(process.wait, _STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _spawn(command: list[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return subprocess.Popen(
            [
                *(sys.executable, "-I", "-S", str(LAUNCHER)),
                # It ends with this process, even if that is killed.
                *(f"--parent={os.getpid()}", f"--death-signal={signal.SIGTERM.value}"),
                *("--", *command),
            ],
            stdout=output,
            stderr=subprocess.STDOUT,
        )


def _configuration(url: str, root: int) -> dict[str, Any]:
    return {
        "global": {"scrape_interval": f"{SCRAPE_S}s", "evaluation_interval": "5s"},
        "rule_files": [str(RULES)],
        "scrape_configs": [
            {
                "job_name": "ray",
                "file_sd_configs": [{"files": [str(ray_logs(root).parent / _RAY_TARGETS)]}],
                # Ray names this machine's address, at which not all of its endpoints listen.
                "relabel_configs": [
                    {
                        "source_labels": ["__address__"],
                        "regex": r".*:(\d+)",
                        "replacement": "127.0.0.1:$1",
                        "target_label": "__address__",
                    }
                ],
            },
            {
                "job_name": "sfumato",
                "static_configs": [{"targets": [urlsplit(url).netloc]}],
            },
        ],
    }


async def _until_ready(client: httpx2.AsyncClient, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + _START_TIMEOUT_S
    while process.poll() is None and time.monotonic() < until:
        try:
            if (await client.get("/-/ready")).is_success:
                return
        except httpx2.HTTPError:
            pass
        await asyncio.sleep(0.2)
    raise StartFailed("Prometheus did not start.")
