"""Carries out a schedule."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

from loadtests.chaos.faults import FAULTS, Load, Scene
from loadtests.chaos.history import History, Operation, Phase
from loadtests.chaos.schedule import Planned
from loadtests.chaos.service import Service


async def inject_all(
    schedule: Sequence[Planned], service: Service, load: Load, history: History
) -> None:
    """Each fault at its time; returns when the last is healed, healing them if cancelled."""
    began = asyncio.get_running_loop().time()
    async with asyncio.TaskGroup() as group:
        for planned in schedule:
            await asyncio.sleep(began + planned.at - asyncio.get_running_loop().time())
            group.create_task(_inject(planned, service, load, history))


async def _inject(planned: Planned, service: Service, load: Load, history: History) -> None:
    scene = Scene(service, load, random.Random(planned.seed))
    fault = FAULTS[planned.fault]()
    told = {"name": planned.fault, "number": planned.number}
    try:
        done = await fault.inject(scene, planned.seconds)
        history.add("faults", Phase.INVOKE, Operation.FAULT, **told, **done)
        await asyncio.sleep(planned.seconds)
    finally:
        healed = await fault.heal(scene)
        history.add("faults", Phase.OK, Operation.FAULT, **told, **healed)
