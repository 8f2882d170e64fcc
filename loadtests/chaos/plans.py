"""What the clients ask for: the same seed gives the same jobs."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

_PROMPTS = ("red heart", "a cat", "blue dog", "a house", "green apple", "a star")
_FORMATS = ("png", "webp", "jpeg")


@dataclass(frozen=True, slots=True)
class JobPlan:
    """One job and what its client does with it."""

    number: int
    key: str
    """Its Idempotency-Key."""
    body: dict[str, Any]
    synchronous: bool
    """By POST /v1/images/generations; otherwise by POST /v1/jobs."""
    twice: bool
    """Sent by two clients at once, under the same key."""
    conflict: bool
    """Another body is sent under the key afterwards."""
    follow: bool
    """By WebSocket; otherwise by looking again and again."""
    cancel_after_s: float | None
    fetch: bool
    """Download every file of what succeeded."""


def make_plans(seed: int) -> Iterator[JobPlan]:
    """Without end."""
    chance = random.Random(f"plans {seed}")
    number = 0
    while True:
        yield _plan(chance, number)
        number += 1


def _plan(chance: random.Random, number: int) -> JobPlan:
    body: dict[str, Any] = {
        "prompt": chance.choice(_PROMPTS),
        "n": chance.choice((1, 1, 1, 2, 2, 3, 4)),
        "num_inference_steps": chance.randint(1, 4),
        "guidance_scale": chance.choice((1.0, 3.0)),
        "size": chance.choice(("auto", "64x64", "64x64", "32x64")),
        "output_format": chance.choice(_FORMATS),
    }
    if chance.random() < 0.5:
        body["seed"] = chance.randrange(2**31)
    if chance.random() < 0.1:
        body["priority"] = chance.choice((-100, -7, 3, 100))
    synchronous = chance.random() < 0.12
    if chance.random() < 0.06:
        body["deadline_s"] = round(chance.uniform(0.2, 20), 2)
    cancels = not synchronous and chance.random() < 0.12
    if cancels:  # long enough to be caught at work
        body["num_inference_steps"] = chance.randint(4, 40)
    return JobPlan(
        number=number,
        key=str(UUID(int=chance.getrandbits(128), version=4)),
        body=body,
        synchronous=synchronous,
        twice=not synchronous and chance.random() < 0.1,
        conflict=not synchronous and chance.random() < 0.05,
        follow=chance.random() < 0.6,
        cancel_after_s=round(chance.uniform(0, 2.5), 2) if cancels else None,
        fetch=chance.random() < 0.25,
    )
