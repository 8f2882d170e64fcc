"""Who asks for what, and when."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

from pipelines.bench.plan import GUIDANCE_SCALES
from pipelines.diffusion.request import Request, SamplingParams

_COLOURS = ("red", "green", "blue", "yellow", "pink", "orange", "purple", "brown")
_THINGS = ("heart", "dog", "cat", "star", "tree", "car", "house", "fish", "moon", "apple", "cup")

Ask = Callable[[int, float, int, str], SamplingParams]
"""Of steps, guidance scale, seed and prompt."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """``at`` is in seconds from the trace's start."""

    at: float
    request: Request


def mixed_requests(
    count: int, steps: Sequence[int], seed: int, ask: Ask, label: str = ""
) -> list[Request]:
    """Step counts by three guidance scales, in any order, each pair as often as any other.

    Dealt from shuffled decks rather than drawn, so that a short trace is no heavier than a long
    one. ``label`` makes prompts and identifiers its own: no arm profits from another's cache.
    """
    chance = random.Random(seed)  # noqa: S311 - a trace, not a secret
    deck: list[tuple[int, float]] = []
    requests = []
    for i in range(count):
        if not deck:
            deck = list(product(steps, GUIDANCE_SCALES))
            chance.shuffle(deck)
        length, guidance_scale = deck.pop()
        prompt = f"a {chance.choice(_COLOURS)} {chance.choice(_THINGS)} {i} {label}".strip()
        params = ask(length, guidance_scale, chance.randrange(2**31), prompt)
        requests.append(Request(f"{label}{i}", params))
    return requests


def poisson_trace(requests: Sequence[Request], rate: float, seed: int) -> list[Arrival]:
    """``rate`` requests a second, on average over this very trace.

    A Poisson process of which the number of arrivals is known is uniform over its time, so the
    offered load is the one that is stated, however short the trace.
    """
    chance = random.Random(seed)  # noqa: S311 - a trace, not a secret
    length = len(requests) / rate
    times = sorted(chance.uniform(0, length) for _ in requests)
    return [Arrival(at, request) for at, request in zip(times, requests, strict=True)]
