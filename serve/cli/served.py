"""`sfumato bench served`: what a client of the running service gets of the bare engine's speed.

The engine runs in this process, the service in its own, on the same device. They take turns, A B B
A: each is idle while the other is measured.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import chain
from pathlib import Path
from statistics import mean, median
from typing import TypeVar

import httpx2
import typer
from rich.console import Console
from rich.table import Table

from pipelines.bench.arms import StepBatching
from pipelines.bench.clock import WallClock
from pipelines.bench.plan import BATCH
from pipelines.bench.serving import serve_clients, serve_trace
from pipelines.bench.trace import Arrival, poisson_trace
from pipelines.diffusion.engine import DiffusionEngine
from pipelines.diffusion.loading import load_model
from pipelines.diffusion.plain_request import plain_params
from pipelines.diffusion.request import Request
from serve.cli.checks import key_of_service
from serve.cli.comparison import CLIENTS, Client, Pair, Traffic, as_json, body, percentiles, table
from serve.cli.target import base_url
from serve.settings import Settings

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured.

    Attributes:
        steps: Of pictures alone, in full batches and in the trace.
        rounds: Of single pictures.
        pictures: Counted in each pass of full batches.
        requests: Of the trace.
        load: The trace's rate as a share of that of full batches.
    """

    steps: tuple[int, ...] = (4, 20, 50)
    rounds: int = 3
    pictures: int = 48
    requests: int = 27
    load: float = 0.45


@dataclass(frozen=True, slots=True)
class Parts:
    """Median seconds of one picture alone, from the client's call to its answer.

    ``accepting`` ends with the job's row, ``waiting`` with the claim, ``telling`` with the event at
    the client; ``committing`` is the rest of the replica's time.
    """

    accepting: float
    waiting: float
    drawing: float
    storing: float
    committing: float
    telling: float


def run(settings: Settings, plan: Plan, json_file: Path | None) -> int:
    """Print the tables; the exit status."""
    key = key_of_service(settings)
    bench = ServedBench(settings, key, plan)
    try:
        pairs, parts = asyncio.run(bench.measure())
    except httpx2.HTTPError as error:
        typer.echo(f"The service does not answer ({error}); start it with `sfumato up`.", err=True)
        return 1
    console = Console(highlight=False)
    console.print(table("bare engine", pairs))
    stages = Table(*asdict(parts), title="One picture by its parts, ms")
    stages.add_row(*(f"{1000 * seconds:.1f}" for seconds in asdict(parts).values()))
    console.print(stages)
    if json_file is not None:
        figures = {"pairs": as_json(pairs), "parts": asdict(parts)}
        json_file.write_text(json.dumps(figures, indent=1))
    return 0


class BareEngine:
    """The engine in this process, warm, with the methods of a `Client`."""

    def __init__(self, settings: Settings) -> None:
        model = settings.model
        family = load_model(
            model.path, model.device, model.dtype, acceleration=settings.speed.acceleration
        )
        self._engine = DiffusionEngine(
            family, settings.worker.max_batch, threads=settings.worker.threads
        )
        self._engine.warm_up()
        self.plain = plain_params(family.description, guidance_scale=model.default_guidance_scale)

    async def ask(self, request: Request) -> float:
        """Seconds that one picture takes."""
        began = time.perf_counter()
        for _ in self._engine.generate([request]):
            pass
        return time.perf_counter() - began

    async def full(self, requests: Sequence[Request], pictures: int) -> float:
        """Pictures a second with two step batches of clients; all requests have the same steps."""
        steps = requests[0].params.num_inference_steps
        arm = StepBatching(self._engine)
        rate = serve_clients(arm, requests, WallClock(), CLIENTS, pictures, math.inf)
        arm.close()
        return rate / steps

    async def trace(self, arrivals: Sequence[Arrival]) -> list[float]:
        """Seconds of each request from when it was due."""
        arm = StepBatching(self._engine)
        served = serve_trace(arm, arrivals, WallClock(), math.inf)
        arm.close()
        return [each.latency for each in served]

    def capacity(self, steps: Sequence[int]) -> float:
        """Load 1: pictures a second, of these steps mixed, in full batches of 8."""
        cost = self._engine.costs[self._engine.models.default]
        pixels = self.plain.width * self.plain.height
        step = cost.seconds_per_step(pixels, BATCH * cost.guided_rows)
        return BATCH / (mean(steps) * step)


class ServedBench:
    """One engine and one service, both warm."""

    def __init__(self, settings: Settings, key: str, plan: Plan) -> None:
        self._engine = BareEngine(settings)
        self._service = Client(base_url(settings), key)
        plain = self._engine.plain
        self._traffic = Traffic(plain.width, plain.height, plain.guidance_scale)
        self._plan = plan

    async def measure(self) -> tuple[list[Pair], Parts]:
        steps = self._plan.steps
        async with self._service.http:
            alone = [await self._alone(each) for each in steps]
            full = [await self._full(each) for each in steps]
            trace = await self._trace(self._plan.load * self._engine.capacity(steps))
            return [*alone, *full, *trace], await self._parts()

    async def _alone(self, steps: int) -> Pair:
        """One picture at a time, after one of each that does not count."""
        await self._engine.ask(self._traffic.one(steps))
        await self._service.ask(self._traffic.one(steps))
        bare, served = await self._in_turns(
            lambda subject: subject.ask(self._traffic.one(steps)), self._plan.rounds
        )
        return Pair(f"{steps} steps alone, s", median(bare), median(served))

    async def _full(self, steps: int) -> Pair:
        count = self._plan.pictures + 3 * CLIENTS
        bare, served = await self._in_turns(
            lambda subject: subject.full(
                [self._traffic.one(steps) for _ in range(count)], self._plan.pictures
            )
        )
        return Pair(f"{steps} steps, full batches, pictures/s", mean(bare), mean(served))

    async def _trace(self, rate: float) -> list[Pair]:
        """The plan's steps by three guidance scales, with Poisson arrivals."""
        steps, count = self._plan.steps, self._plan.requests
        bare, served = await self._in_turns(
            lambda subject: subject.trace(
                poisson_trace(self._traffic.mixed(steps, count, 0), rate, 0)
            )
        )
        return percentiles(f"mixed trace at {rate:.2f}/s", chain(*bare), chain(*served))

    async def _in_turns(
        self, measure: Callable[[BareEngine | Client], Awaitable[T]], rounds: int = 1
    ) -> tuple[list[T], list[T]]:
        """A B B A."""
        bare: list[T] = []
        served: list[T] = []
        for _ in range(rounds):
            bare.append(await measure(self._engine))
            served.append(await measure(self._service))
            served.append(await measure(self._service))
            bare.append(await measure(self._engine))
        return bare, served

    async def _parts(self) -> Parts:
        steps = self._plan.steps[len(self._plan.steps) // 2]
        samples = [await self._follow(self._traffic.one(steps)) for _ in range(9)]
        return Parts(*(median(seconds) for seconds in zip(*samples, strict=True)))

    async def _follow(self, request: Request) -> tuple[float, ...]:
        """The parts of one job, by its events, this machine's clock and the database's."""
        began = time.time()
        http = self._service.http
        job = (await http.post("/v1/jobs", json=body(request.params))).json()
        times: dict[str, float] = {}
        data: dict[str, float] = {}
        async with http.stream("GET", f"/v1/jobs/{job['id']}/events") as events:
            async for line in events.aiter_lines():
                if line.startswith("data: "):
                    event = json.loads(line.removeprefix("data: "))
                    times[event["type"]] = datetime.fromisoformat(event["created_at"]).timestamp()
                    data |= event["data"] if event["type"] == "image.succeeded" else {}
        ended = time.time()
        drawing, storing = data["drawing_s"], data["storing_s"]
        accepted, claimed, done = (
            times[name] for name in ("job.queued", "job.running", "job.succeeded")
        )
        rest = done - claimed - drawing - storing
        return accepted - began, claimed - accepted, drawing, storing, rest, ended - done
