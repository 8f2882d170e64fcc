"""Carries out a schedule."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from contextlib import suppress

import httpx2

from loadtests.chaos.faults import FAULTS, Fault, Load, Scene
from loadtests.chaos.faults.processes import Kill
from loadtests.chaos.history import History, Operation, Phase
from loadtests.chaos.processes import Role, ready
from loadtests.chaos.schedule import Planned
from loadtests.chaos.service import Service

_RECOVERY_S = 90.0
_ANSWER_S = 2.0


async def inject_all(
    schedule: Sequence[Planned], service: Service, load: Load, history: History
) -> None:
    """Each fault at its time; returns when the last is healed, healing them if cancelled.

    A kill waits until the service has recovered from those before it, and the rest of the
    schedule with it: on a slow machine a run takes longer, and is not another test.
    """
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with asyncio.TaskGroup() as group:
        for planned in schedule:
            await asyncio.sleep(began + planned.at - loop.time())
            fault = FAULTS[planned.fault]()
            if isinstance(fault, Kill):
                due = loop.time()
                await _recovered(service, fault.roles)
                began += loop.time() - due
            group.create_task(_inject(planned, fault, service, load, history))


async def _recovered(service: Service, roles: Sequence[Role]) -> None:
    """Wait until the roles to be killed are whole, no other is empty, and the service answers."""
    with suppress(TimeoutError):  # then the kill falls into an outage, and so be it
        async with (
            asyncio.timeout(_RECOVERY_S),
            httpx2.AsyncClient(base_url=service.url, timeout=_ANSWER_S, trust_env=False) as client,
        ):
            while not (_is_whole(service, roles) and await _answers(client)):
                await asyncio.sleep(0.25)


def _is_whole(service: Service, roles: Sequence[Role]) -> bool:
    counts = ready(service.up.pid)
    return all(
        counts[role] >= (number if role in roles else 1) for role, number in service.whole.items()
    )


async def _answers(client: httpx2.AsyncClient) -> bool:
    try:
        return (await client.get("/health")).is_success
    except httpx2.HTTPError:
        return False


async def _inject(
    planned: Planned, fault: Fault, service: Service, load: Load, history: History
) -> None:
    scene = Scene(service, load, random.Random(planned.seed))
    told = {"name": planned.fault, "number": planned.number}
    try:
        done = await fault.inject(scene, planned.seconds)
        history.add("faults", Phase.INVOKE, Operation.FAULT, **told, **done)
        await asyncio.sleep(planned.seconds)
    finally:
        healed = await fault.heal(scene)
        history.add("faults", Phase.OK, Operation.FAULT, **told, **healed)
