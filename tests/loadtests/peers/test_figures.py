"""What the comparison makes of its samples."""

from __future__ import annotations

import numpy as np
import pytest

from loadtests.peers.client import Sample
from loadtests.peers.figures import Latency, highest_rate, ratio, summarize

ALONE = {4: 0.1, 20: 0.5}


def samples(seconds: list[float], steps: int = 20) -> list[Sample]:
    return [Sample(float(due), steps, each, drawn=True) for due, each in enumerate(seconds)]


def test_percentiles_are_of_all_requests_and_patience_of_each_by_its_steps() -> None:
    met = summarize([*samples([1.0] * 5), *samples([1.0] * 5, steps=4)], ALONE)
    assert (met.requests, met.missing, met.p50, met.p95) == (10, 0, 1.0, 1.0)
    assert met.within == 0.5, "1 s is twice 0.5 s, and ten times 0.1 s"
    assert met.slowdown_p95 == pytest.approx(10.0)


def test_a_request_without_a_picture_counts_with_its_age_and_is_never_in_time() -> None:
    met = summarize([*samples([0.5]), Sample(9.9, 20, 0.2, drawn=False)], ALONE)
    assert (met.missing, met.within) == (1, 0.5)
    assert met.p50 == pytest.approx(0.35)


def test_the_interval_holds_the_ratio_of_two_known_distributions() -> None:
    chance = np.random.default_rng(1)
    ours, other = (samples(list(chance.exponential(mean, 400))) for mean in (1.0, 2.0))
    found = ratio(ours, other, 50)
    assert found.low < 0.5 < found.high
    assert found.high - found.low < 0.3
    assert found.low <= found.value <= found.high


def test_equal_arms_have_a_ratio_of_one_without_doubt_since_they_are_paired() -> None:
    some = samples(list(np.random.default_rng(2).exponential(1.0, 100)))
    found = ratio(some, some, 95)
    assert (found.low, found.value, found.high) == (1.0, 1.0, 1.0)


def test_arms_with_other_numbers_of_requests_are_compared_unpaired() -> None:
    found = ratio(samples([1.0] * 30), samples([2.0] * 20), 50)
    assert (found.low, found.value, found.high) == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("slowdowns", "expected"),
    [
        ([2.0, 4.0, 6.0], (2.5, False)),
        ([2.0, 5.0], (2.0, True)),
        ([6.0, 7.0], None),
        ([2.0, 8.0, 4.0], (1.5, False)),
        ([], None),
    ],
)
def test_the_highest_rate_lies_where_the_slowdown_passes_five(
    slowdowns: list[float], expected: tuple[float, bool] | None
) -> None:
    points = [
        (float(rate), Latency(10, 0, 1.0, 1.0, slowdown, 1.0))
        for rate, slowdown in enumerate(slowdowns, 1)
    ]
    assert highest_rate(points[::-1]) == expected
