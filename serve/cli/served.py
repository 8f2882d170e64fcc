"""`sfumato bench served`: what a client of the running service gets of the bare engine's speed.

The engine runs in this process, the service in its own, on the same device, in turns A B B A: each
stands still while the other is measured.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from statistics import mean, median
from typing import Any

import httpx2
import numpy as np
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
from serve.cli.client import CLIENTS, Client, body
from serve.cli.pairs import Pair, as_json, table
from serve.cli.target import base_url
from serve.cli.traffic import Traffic
from serve.settings import Settings


@dataclass(frozen=True, slots=True)
class Plan:
    """``steps`` of pictures alone, in full batches and in the trace.

    ``rounds`` of single pictures, ``pictures`` counted of each full pass, ``requests`` of the
    trace, whose rate is ``load`` times that of full batches.
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
    the client; ``committing`` is what is left of the replica's time.
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
    _show(pairs, parts)
    if json_file is not None:
        found = {"pairs": as_json(pairs), "parts": asdict(parts)}
        json_file.write_text(json.dumps(found, indent=1))
    return 0


class ServedBench:
    """One engine and one service, both warm."""

    def __init__(self, settings: Settings, key: str, plan: Plan) -> None:
        model = settings.model
        family = load_model(
            model.path, model.device, model.dtype, acceleration=settings.speed.acceleration
        )
        self._engine = DiffusionEngine(
            family, settings.worker.max_batch, threads=settings.worker.threads
        )
        self._engine.warm_up()
        plain = plain_params(family.description, guidance_scale=model.default_guidance_scale)
        self._traffic = Traffic(plain.width, plain.height, plain.guidance_scale)
        self._plan = plan
        self._service = Client(base_url(settings), key)

    async def measure(self) -> tuple[list[Pair], Parts]:
        steps = self._plan.steps
        async with self._service.http:
            alone = [await self._alone(each) for each in steps]
            full = [await self._full(each) for each in steps]
            trace = await self._trace(self._plan.load * self._capacity())
            return [*alone, *full, *trace], await self._parts()

    async def _alone(self, steps: int) -> Pair:
        """One picture at a time."""
        self._draw_alone(steps)
        await self._service.ask(self._traffic.one(steps))
        bare, served = await self._in_turns(
            lambda: self._draw_alone(steps),
            lambda: self._service.ask(self._traffic.one(steps)),
            self._plan.rounds,
        )
        return Pair(f"{steps} steps alone, s", median(bare), median(served))

    async def _full(self, steps: int) -> Pair:
        """As many as fill two step batches, each asked for anew once it is served."""
        bare, served = await self._in_turns(
            lambda: self._draw_full(steps),
            lambda: self._service.full(self._filling(steps), self._plan.pictures),
        )
        return Pair(f"{steps} steps, full batches, pictures/s", mean(bare), mean(served))

    async def _trace(self, rate: float) -> list[Pair]:
        """4, 20 and 50 steps by three guidance scales, Poisson arrivals; from when it was due."""
        bare, served = await self._in_turns(
            lambda: self._draw_trace(rate), lambda: self._service.trace(self._arrivals(rate))
        )
        return [
            Pair(
                f"mixed trace at {rate:.2f}/s, p{percent}, s",
                float(np.percentile(np.concatenate(bare), percent)),
                float(np.percentile(np.concatenate(served), percent)),
            )
            for percent in (50, 95)
        ]

    async def _in_turns(
        self,
        bare: Callable[[], Any],
        served: Callable[[], Awaitable[Any]],
        rounds: int = 1,
    ) -> tuple[list[Any], list[Any]]:
        """A B B A."""
        ours: list[Any] = []
        theirs: list[Any] = []
        for _ in range(rounds):
            ours.append(bare())
            theirs += [await served(), await served()]
            ours.append(bare())
        return ours, theirs

    def _draw_alone(self, steps: int) -> float:
        began = time.perf_counter()
        for _ in self._engine.generate([self._traffic.one(steps)]):
            pass
        return time.perf_counter() - began

    def _draw_full(self, steps: int) -> float:
        arm = StepBatching(self._engine)
        pictures = self._plan.pictures
        requests = self._filling(steps)
        done = serve_clients(arm, requests, WallClock(), CLIENTS, pictures, math.inf)
        arm.close()
        return done / steps

    def _filling(self, steps: int) -> Iterator[Request]:
        return (self._traffic.one(steps) for _ in range(self._plan.pictures + 3 * CLIENTS))

    def _draw_trace(self, rate: float) -> Sequence[float]:
        arm = StepBatching(self._engine)
        served = serve_trace(arm, self._arrivals(rate), WallClock(), math.inf)
        arm.close()
        return [each.latency for each in served]

    async def _parts(self) -> Parts:
        steps = self._plan.steps[len(self._plan.steps) // 2]
        told = [await self._follow(self._traffic.one(steps)) for _ in range(9)]
        return Parts(*(median(each) for each in zip(*told, strict=True)))

    async def _follow(self, request: Request) -> tuple[float, ...]:
        """One job by its events, on this machine's clock and the database's."""
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

    def _arrivals(self, rate: float) -> Sequence[Arrival]:
        return poisson_trace(self._traffic.mixed(self._plan.steps, self._plan.requests, 0), rate, 0)

    def _capacity(self) -> float:
        """Pictures a second of the mix in full batches of 8: what load 1 is."""
        cost = self._engine.costs[self._engine.models.default]
        pixels = self._traffic.width * self._traffic.height
        step = cost.seconds_per_step(pixels, BATCH * cost.guided_rows)
        return BATCH / (mean(self._plan.steps) * step)


def _show(pairs: Sequence[Pair], parts: Parts) -> None:
    console = Console(highlight=False)
    console.print(table("bare engine", pairs))
    stages = Table(*asdict(parts), title="One picture by its parts, ms")
    stages.add_row(*(f"{1000 * each:.1f}" for each in asdict(parts).values()))
    console.print(stages)
