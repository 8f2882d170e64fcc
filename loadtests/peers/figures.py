"""Percentiles, ratios and their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loadtests.peers.client import Sample
from loadtests.peers.plan import PATIENCE

Floats = NDArray[np.float64]
_RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Latency:
    """Of all requests of one rate, in seconds from when each was due.

    A slowdown is seconds over those of the same picture alone, and ``within`` the share of
    requests whose slowdown is 5 at most. Requests without a picture count with their age at the
    deadline.
    """

    requests: int
    missing: int
    p50: float
    p95: float
    slowdown_p95: float
    within: float


@dataclass(frozen=True, slots=True)
class Ratio:
    """``low`` and ``high`` bound it with 95 % confidence."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} ({self.low:.2f} to {self.high:.2f})"


def summarize(samples: Sequence[Sample], alone: Mapping[int, float]) -> Latency:
    """``alone`` is in seconds, by steps."""
    seconds = _seconds(samples)
    slowdown = seconds / np.array([alone[sample.steps] for sample in samples])
    drawn = np.array([sample.drawn for sample in samples])
    return Latency(
        requests=len(samples),
        missing=int((~drawn).sum()),
        p50=float(np.percentile(seconds, 50)),
        p95=float(np.percentile(seconds, 95)),
        slowdown_p95=float(np.percentile(slowdown, 95)),
        within=float((drawn & (slowdown <= PATIENCE)).mean()),
    )


def ratio(ours: Sequence[Sample], other: Sequence[Sample], percent: float) -> Ratio:
    """Of a percentile of both, by a bootstrap of blocks.

    Neighbours wait in the same queue, so that blocks of them are drawn instead of requests. If both
    met the same arrivals, the same blocks are drawn of both.
    """
    a, b = _seconds(ours), _seconds(other)
    chance = np.random.default_rng(0)
    places = _blocks(len(a), chance)
    others = places if len(a) == len(b) else _blocks(len(b), chance)
    ratios = np.percentile(a[places], percent, axis=1) / np.percentile(b[others], percent, axis=1)
    low, high = np.percentile(ratios, (2.5, 97.5))
    value = np.percentile(a, percent) / np.percentile(b, percent)
    return Ratio(float(value), float(low), float(high))


def highest_rate(points: Sequence[tuple[float, Latency]]) -> tuple[float, bool] | None:
    """The rate up to which the 95th percentile of slowdown stays within 5; None if it never does.

    Between two measured rates it is interpolated. True: it stays within at every measured rate.
    """
    ordered = sorted(points, key=lambda point: point[0])
    below: tuple[float, float] | None = None
    for rate, latency in ordered:
        slowdown = latency.slowdown_p95
        if slowdown > PATIENCE:
            if below is None:
                return None
            share = (PATIENCE - below[1]) / (slowdown - below[1])
            return below[0] + share * (rate - below[0]), False
        below = rate, slowdown
    return None if below is None else (below[0], True)


def _seconds(samples: Sequence[Sample]) -> Floats:
    return np.array([sample.seconds for sample in samples])


def _blocks(count: int, chance: np.random.Generator) -> NDArray[np.int64]:
    """Places of resamples, one a row, made of blocks that may run from the end to the start."""
    length = max(1, round(count ** (1 / 3)))
    starts = chance.integers(count, size=(_RESAMPLES, -(-count // length)))
    places = (starts[:, :, None] + np.arange(length)) % count
    return places.reshape(_RESAMPLES, -1)[:, :count]
