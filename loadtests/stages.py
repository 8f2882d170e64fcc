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
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from statistics import median
from typing import Annotated

import httpx2
import psutil
import typer
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from rich.console import Console
from rich.table import Table

from loadtests.up import Up, short_folder
from serve.local.port import free_port

KEY = "stages-key-of-24-characters"
TIMEOUT_S = 120.0
WARM_UP = 4
_EXPORTED_S = 3.0
_NS_PER_MS = 1e6

_SERVERS = "postgres", "valkey", "raylet", "gcs"

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


class Spans:
    """Receives traces by OTLP over HTTP; each trace's spans by its id."""

    def __init__(self) -> None:
        self.by_trace: defaultdict[bytes, list[Span]] = defaultdict(list)
        spans = self.by_trace

        class Receiver(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                    for scope in resource.scope_spans:
                        for span in scope.spans:
                            spans[span.trace_id].append(span)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@dataclass(frozen=True, slots=True)
class Call:
    """One picture; instants are nanoseconds of Unix time."""

    trace_id: bytes
    sent: int
    answered: int

    @property
    def seconds(self) -> float:
        return (self.answered - self.sent) / 1e9

    def stages(self, spans: Iterable[Span]) -> dict[str, float]:
        """Milliseconds by stage; empty where a span is missing."""
        began, ended = {}, {}
        for span in sorted(spans, key=lambda span: span.start_time_unix_nano):
            name = "request" if span.kind == Span.SPAN_KIND_SERVER else span.name
            name = "place" if name == "queue" and name in began else name
            began[name], ended[name] = span.start_time_unix_nano, span.end_time_unix_nano
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
    folder, port, spans = short_folder("stages"), free_port(), Spans()
    environment = {
        **os.environ,
        "OTEL_EXPORTER_OTLP_ENDPOINT": spans.url,
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
        spans.close()
        shutil.rmtree(folder, ignore_errors=True)
    columns = f"{steps} steps alone", f"{clients} clients, {len(full) / took:.2f}/s"
    _print("ms (p50)", columns, [_medians(calls, spans) for calls in (alone, full)])
    _print("ms of CPU a picture", columns, [alone_cpu, full_cpu])


async def _draw(client: httpx2.AsyncClient, steps: int) -> Call:
    trace_id = secrets.token_bytes(16)
    traceparent = f"00-{trace_id.hex()}-{secrets.token_hex(8)}-01"
    sent = time.time_ns()
    answer = await client.post(
        "/v1/images/generations",
        json={"prompt": "a red heart", "num_inference_steps": steps},
        headers={"traceparent": traceparent},
    )
    answer.raise_for_status()
    return Call(trace_id, sent, time.time_ns())


def _medians(calls: list[Call], spans: Spans) -> dict[str, float]:
    whole = [stages for call in calls if (stages := call.stages(spans.by_trace[call.trace_id]))]
    if len(whole) < len(calls):
        typer.echo(f"{len(calls) - len(whole)} of {len(calls)} traces are incomplete.")
    medians = {name: median(stages[name] for stages in whole) for name in STAGES}
    return {**medians, "all": 1e3 * median(call.seconds for call in calls)}


def _cpu_seconds(pid: int) -> dict[str, float]:
    """By process, of the command and all that it started."""
    command = psutil.Process(pid)
    seconds: defaultdict[str, float] = defaultdict(float)
    for process in (command, *command.children(recursive=True)):
        try:
            times, words = process.cpu_times(), process.cmdline()
        except psutil.Error:
            continue
        seconds[_name(words)] += times.user + times.system
    return seconds


def _name(words: list[str]) -> str:
    first = words[0] if words else ""
    if first.startswith("ray::"):
        return first.removeprefix("ray::").replace("ServeReplica:sfumato:", "").partition(".")[0]
    return next(
        (name for name in ("postgres", "valkey", "raylet", "gcs") if name in first), "other"
    )


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
