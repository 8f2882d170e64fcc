"""Slopes of known series."""

from __future__ import annotations

import numpy as np
import pytest

from loadtests.soak.slope import fit

SECONDS = np.arange(0, 900, 10.0)
"""A quarter of an hour, a sample every ten seconds."""
BOUND = 6.0


def test_a_straight_line_has_its_slope_and_no_error() -> None:
    slope = fit(SECONDS, 100 + 20 * SECONDS / 3600)
    assert slope.per_hour == pytest.approx(20)
    assert slope.error == pytest.approx(0, abs=1e-9)


def test_the_error_is_that_of_the_textbook_where_samples_are_independent() -> None:
    # Residuals of alternating sign: neighbours do not go together, so nothing is widened.
    noise = np.where(np.arange(90) % 2, 1.0, -1.0)
    slope = fit(SECONDS, noise)
    hours = SECONDS / 3600
    spread = ((hours - hours.mean()) ** 2).sum()
    assert slope.error == pytest.approx(np.sqrt(90 / 88 / spread), rel=1e-3)


@pytest.mark.parametrize("seed", range(20))
def test_growth_under_noise_grows(seed: int) -> None:
    noise = np.random.default_rng(seed).normal(0, 1, SECONDS.size)
    slope = fit(SECONDS, 300 + 24 * SECONDS / 3600 + noise)
    assert slope.grows(BOUND)
    assert abs(slope.per_hour - 24) < 5 * slope.error


@pytest.mark.parametrize("seed", range(20))
def test_flat_noise_is_flat(seed: int) -> None:
    noise = np.random.default_rng(seed).normal(0, 1, SECONDS.size)
    assert not fit(SECONDS, 300 + noise).grows(BOUND)


@pytest.mark.parametrize("period", [90, 180, 300])
def test_a_sawtooth_is_flat(period: int) -> None:
    """Memory that rises and is freed again; as independent samples it would pass for growth."""
    slope = fit(SECONDS, 300 + 8 * (SECONDS % period) / period)
    assert slope.per_hour > 0
    assert not slope.grows(BOUND)


def test_a_sawtooth_that_rises_grows() -> None:
    slope = fit(SECONDS, 300 + 2 * (SECONDS % 60) / 60 + 40 * SECONDS / 3600)
    assert slope.grows(BOUND)


def test_what_is_slower_than_the_bound_is_flat_however_sure() -> None:
    slope = fit(SECONDS, 300 + 5 * SECONDS / 3600)
    assert slope.per_hour - 2 * slope.error > 0
    assert not slope.grows(BOUND)
    assert slope.grows(4.0)


def test_what_falls_does_not_grow() -> None:
    assert not fit(SECONDS, 300 - 50 * SECONDS / 3600).grows(0.0)


def test_a_constant_is_flat() -> None:
    slope = fit(SECONDS, np.full(SECONDS.size, 42.0))
    assert (slope.per_hour, slope.error) == (0.0, 0.0)
    assert not slope.grows(0.0)


def test_too_few_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="4 samples are too few"):
        fit([0, 10, 20, 30], [1, 2, 3, 4])
