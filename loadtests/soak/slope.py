"""How fast a series rises, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import ArrayLike

FEWEST = 5
"""Samples; of fewer no line is drawn."""
_MOST_CORRELATED = 0.99


@dataclass(frozen=True, slots=True)
class Slope:
    """Of a least-squares line."""

    per_hour: float
    error: float
    """Its standard error."""

    def grows(self, bound: float) -> bool:
        """Whether it is above ``bound`` an hour, and its interval of two errors above zero."""
        return self.per_hour > bound and self.per_hour - 2 * self.error > 0

    def __str__(self) -> str:
        return f"{self.per_hour:+.1f} ± {2 * self.error:.1f}"


def fit(seconds: ArrayLike, values: ArrayLike) -> Slope:
    """The line through a series sampled at even times.

    A process's memory now is much like its memory ten seconds ago, so that samples are worth fewer
    than they are: the error is widened by the correlation of neighbouring residuals, as for a
    first-order autoregressive series. Otherwise any sawtooth would be called growth.

    Raises:
        ValueError: there are fewer than ``FEWEST`` samples.
    """
    offsets = np.array(values, dtype=np.float64)
    hours = np.array(seconds, dtype=np.float64) / 3600
    count = offsets.size
    if count < FEWEST:
        raise ValueError(f"{count} samples are too few for a slope: take {FEWEST} or more.")
    hours -= hours.mean()
    offsets -= offsets.mean()
    spread = float(hours @ hours)
    slope = float(hours @ offsets) / spread
    residuals = offsets - slope * hours
    squares = float(residuals @ residuals)
    if squares == 0.0:
        return Slope(slope, 0.0)
    correlation = float(residuals[1:] @ residuals[:-1]) / squares
    correlation = min(max(correlation, 0.0), _MOST_CORRELATED)
    variance = squares / (count - 2) / spread
    return Slope(slope, sqrt(variance * (1 + correlation) / (1 - correlation)))
