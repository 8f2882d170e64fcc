"""The run: capacities first, then the open loop, each arm alone on the machine meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager

import aiohttp
import typer

from loadtests.peers.arms import Arm, ArmFailed, Configuration, running
from loadtests.peers.client import Client
from loadtests.peers.plan import Plan, Trace
from loadtests.peers.results import Capacity, Pass, Results, Subject
from loadtests.up import StartFailed

_WARM_UP_CLIENTS = 3
"""BentoML learns from its first batches, of one, two and three."""


class Comparison:
    """``failures`` are sentences about arms that did not start or did not draw."""

    def __init__(self, plan: Plan, results: Results) -> None:
        self._plan = plan
        self._results = results
        self.failures: list[str] = []

    @property
    def minutes(self) -> tuple[float, float]:
        """What it takes at a guess, and at most."""
        return self._plan.minutes(self._is_measured)

    def _is_measured(self, trace: Trace, size: int, configuration: Configuration) -> bool:
        """Whether its capacity is."""
        found = self._results.capacities(Subject(trace, size))
        return any(each.configuration == configuration for each in found)

    async def measure(self) -> None:
        """Measure what the plan asks for and the results don't have."""
        plan = self._plan
        for trace in plan.traces:
            subject = Subject(trace, plan.size)
            for arm in plan.arms:
                for each in plan.tried(arm):
                    await self._unless_it_fails(each, self._capacity(subject, each))
            for number in range(plan.rounds if plan.loads else 0):
                await self._round(subject, backwards=number % 2 == 1)
        if plan.saturated_size is None:
            return
        for trace in plan.traces:
            large, small = Subject(trace, plan.saturated_size), Subject(trace, plan.size)
            for arm in plan.arms:
                await self._saturated(large, small, arm)

    async def _capacity(self, subject: Subject, configuration: Configuration) -> None:
        plan, trace, size = self._plan, subject.trace, subject.size
        if self._is_measured(trace, size, configuration):
            return
        async with self._ready(subject, configuration) as client:
            alone = {}
            for steps in plan.steps_of(trace):
                requests = plan.make(trace, size, plan.alone * 9, 0, f"alone {steps}")
                these = [each for each in requests if each.params.num_inference_steps == steps]
                alone[steps] = await client.alone(these[: plan.alone])
            count = plan.pictures + 2 * plan.clients
            requests = plan.make(trace, size, count, 0, "full")
            rate = await client.saturate(requests, plan.clients, plan.pictures, plan.limit_s)
            client.look()
        self._results.add(Capacity(subject, configuration, rate, alone))
        typer.echo(f"{trace} {size} px, {configuration}: {rate:.2f} pictures/s")

    async def _saturated(self, subject: Subject, small: Subject, arm: Arm) -> None:
        """The capacity at another size, of the configuration that was best at the small one."""
        best = self._results.best(small, [arm])
        if best is not None:
            configuration = best.configuration
            await self._unless_it_fails(configuration, self._capacity(subject, configuration))

    async def _round(self, subject: Subject, *, backwards: bool) -> None:
        """Every arm by every load. Two rounds, the second ``backwards``, are A B C C B A."""
        peer = self._results.best_peer(subject)
        if peer is None:
            self.failures.append("No peer's capacity was measured, so there is no load.")
            return
        arms, loads = list(self._plan.arms), sorted(self._plan.loads)
        if backwards:
            arms, loads = arms[::-1], loads[::-1]
        for arm in arms:
            best = self._results.best(subject, [arm])
            if best is not None:
                measuring = self._passes(best, loads, peer.pictures_per_s)
                await self._unless_it_fails(best.configuration, measuring)

    async def _passes(self, best: Capacity, loads: Sequence[float], capacity: float) -> None:
        left = list(loads)
        while left:
            async with self._ready(best.subject, best.configuration) as client:
                while left and await self._pass(client, best, left.pop(0), capacity):
                    pass

    async def _pass(self, client: Client, best: Capacity, load: float, capacity: float) -> bool:
        """Whether all was drawn; if not, the arm has a queue and must be started anew."""
        subject, configuration, rate = best.subject, best.configuration, load * capacity
        number = self._results.rounds(subject, configuration.arm, load)
        arrivals = self._plan.arrivals(subject.trace, rate, load, number)
        limit = arrivals[-1].at + self._plan.grace_s
        samples = await client.replay(arrivals, limit)
        client.look()
        self._results.add(Pass(subject, configuration, load, rate, number, samples))
        drawn = sum(sample.drawn for sample in samples)
        typer.echo(f"{subject.trace} at {rate:.2f}/s, {configuration}: {drawn} of {len(samples)}")
        return drawn == len(samples)

    @asynccontextmanager
    async def _ready(self, subject: Subject, configuration: Configuration) -> AsyncIterator[Client]:
        """The arm, started and warm."""
        warm_up = self._plan.make(subject.trace, subject.size, self._plan.warm_up, 0, "warm-up")
        async with running(configuration) as address, Client(address, subject.size) as client:
            await client.wait_until_it_draws(warm_up[0])
            await client.several(warm_up, _WARM_UP_CLIENTS)
            yield client

    async def _unless_it_fails(
        self, configuration: Configuration, measuring: Awaitable[None]
    ) -> None:
        try:
            await measuring
        except (ArmFailed, StartFailed, aiohttp.ClientError) as error:
            notes = "\n".join(getattr(error, "__notes__", ()))
            self.failures.append(f"{configuration}: {error!r}\n{notes}")
            typer.echo(self.failures[-1], err=True)
