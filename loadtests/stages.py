"""`python -m loadtests.stages`: where the time of a picture goes, from the request to its answer.

Starts `sfumato up` with traces that this process receives, and asks for pictures: one after
another, and then by clients that ask again at once, so that batches are full. Every instant is of a
span or of the client, by one machine's clock. What each process computes is told beside it.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Annotated

import httpx2
import psutil
import typer
from rich.console import Console
from rich.table import Table

from loadtests.collector import Collected, Collector, collecting
from loadtests.soak.family import members
from loadtests.up import Up, short_folder
from serve.local.port import free_port

KEY = "stages-key-of-24-characters"
TIMEOUT_S = 120.0
WARM_UP = 4
_EXPORTED_S = 3.0
_NS_PER_MS = 1e6

STAGES = (
    "client to ingress",
    "accept",
    "wait for the claim",
    "wait for a place",
    "encode",
    "denoise",
    "decode",
    "hand over",
    "postprocess",
    "store",
    "hand back",
    "commit",
    "answer",
    "ingress to client",
)


@dataclass(frozen=True, slots=True)
class Call:
    """One picture; instants are nanoseconds of Unix time. Its span is the client's own."""

    trace_id: str
    span_id: str
    sent: int
    answered: int

    @property
    def seconds(self) -> float:
        return (self.answered - self.sent) / 1e9

    def stages(self, spans: Iterable[Collected]) -> dict[str, float]:
        """Milliseconds by stage; empty where a span is missing."""
        began, ended = {}, {}
        for span in spans:
            name = "request" if span.parent_id == self.span_id else span.name
            name = "place" if name == "queue" and name in began else name
            began[name], ended[name] = span.began, span.ended
        try:
            instants = (
                self.sent,
                began["request"],
                began["queue"],
                ended["queue"],
                began["encode"],
                ended["encode"],
                ended["denoise"],
                ended["decode"],
                began["postprocess"],
                ended["postprocess"],
                ended["store"],
                began["commit"],
                ended["commit"],
                ended["request"],
                self.answered,
            )
        except KeyError:
            return {}
        pairs = pairwise(instants)
        return dict(zip(STAGES, ((b - a) / _NS_PER_MS for a, b in pairs), strict=True))


def main(
    steps: Annotated[int, typer.Option(help="Of each picture.")] = 4,
    pictures: Annotated[int, typer.Option(help="One after another.")] = 40,
    clients: Annotated[int, typer.Option(help="That ask again at once.")] = 16,
    seconds: Annotated[float, typer.Option(help="How long they do.")] = 30.0,
) -> None:
    """Milliseconds of each stage, and of each process's CPU."""
    asyncio.run(_run(steps, pictures, clients, seconds))


async def _run(steps: int, pictures: int, clients: int, seconds: float) -> None:
    with collecting() as collector:
        await _measure(collector, steps, pictures, clients, seconds)


async def _measure(
    collector: Collector, steps: int, pictures: int, clients: int, seconds: float
) -> None:
    folder, port = short_folder("stages"), free_port()
    environment = {
        **os.environ,
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.address,
        "OTEL_BSP_SCHEDULE_DELAY": "500",
        "SFUMATO_API_KEY": KEY,
        "SFUMATO_DATA_DIR": str(folder / "data"),
        "SFUMATO_PORT": str(port),
    }
    up = Up(folder, environment)
    await up.start()
    try:
        url, headers = f"http://127.0.0.1:{port}", {"Authorization": f"Bearer {KEY}"}
        async with httpx2.AsyncClient(base_url=url, headers=headers, timeout=TIMEOUT_S) as client:
            for _ in range(WARM_UP):
                await _draw(client, steps)
            before = _cpu_seconds(up.pid)
            alone = [await _draw(client, steps) for _ in range(pictures)]
            alone_cpu = _cpu_since(before, up.pid, pictures)
            until = time.monotonic() + seconds

            full: list[Call] = []

            async def ask() -> None:
                while time.monotonic() < until:
                    full.append(await _draw(client, steps))

            before, began = _cpu_seconds(up.pid), time.monotonic()
            await asyncio.gather(*(ask() for _ in range(clients)))
            took = time.monotonic() - began
            full_cpu = _cpu_since(before, up.pid, len(full))
        await asyncio.sleep(_EXPORTED_S)
    finally:
        await up.stop()
        shutil.rmtree(folder, ignore_errors=True)
    columns = f"{steps} steps alone", f"{clients} clients, {len(full) / took:.2f}/s"
    _print("ms (p50)", columns, [_medians(calls, collector) for calls in (alone, full)])
    _print("ms of CPU a picture", columns, [alone_cpu, full_cpu])


async def _draw(client: httpx2.AsyncClient, steps: int) -> Call:
    trace_id, span_id = secrets.token_hex(16), secrets.token_hex(8)
    sent = time.time_ns()
    answer = await client.post(
        "/v1/images/generations",
        json={"prompt": "a red heart", "num_inference_steps": steps},
        headers={"traceparent": f"00-{trace_id}-{span_id}-01"},
    )
    answer.raise_for_status()
    return Call(trace_id, span_id, sent, time.time_ns())


def _medians(calls: list[Call], collector: Collector) -> dict[str, float]:
    whole = [stages for call in calls if (stages := call.stages(collector.of(call.trace_id)))]
    if len(whole) < len(calls):
        typer.echo(f"{len(calls) - len(whole)} of {len(calls)} traces are incomplete.")
    medians = {name: median(stages[name] for stages in whole) for name in STAGES}
    return {**medians, "all": 1e3 * median(call.seconds for call in calls)}


def _cpu_seconds(pid: int) -> dict[str, float]:
    """By role, of the command and all that it started."""
    seconds: defaultdict[str, float] = defaultdict(float)
    for role, process in members(pid):
        with suppress(psutil.Error):
            times = process.cpu_times()
            seconds[role] += times.user + times.system
    return seconds


def _cpu_since(before: Mapping[str, float], pid: int, pictures: int) -> dict[str, float]:
    now = _cpu_seconds(pid)
    spent = {name: 1e3 * (now[name] - before.get(name, 0.0)) / pictures for name in now}
    return {name: ms for name, ms in sorted(spent.items(), key=lambda each: -each[1]) if ms >= 0.1}


def _print(title: str, columns: tuple[str, ...], values: list[dict[str, float]]) -> None:
    table = Table(title, *columns, box=None)
    for name in dict.fromkeys(name for each in values for name in each):
        table.add_row(name, *(f"{each[name]:.1f}" if name in each else "" for each in values))
    Console(width=100).print(table)


if __name__ == "__main__":
    typer.run(main)
