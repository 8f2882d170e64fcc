from __future__ import annotations

import itertools
from collections import Counter

import pytest

from pipelines.bench.subject import Subject
from pipelines.bench.trace import mixed_requests, poisson_trace

STEPS = (4, 20, 50)


def test_same_seed_same_trace(subject: Subject) -> None:
    once, again = (
        poisson_trace(mixed_requests(20, STEPS, 3, subject.ask), rate=2.0, seed=3) for _ in range(2)
    )
    other = poisson_trace(mixed_requests(20, STEPS, 4, subject.ask), rate=2.0, seed=4)
    assert repr(once) == repr(again)
    assert repr(once) != repr(other)


def test_a_label_changes_prompts_and_nothing_else(subject: Subject) -> None:
    plain, labelled = (mixed_requests(9, STEPS, 0, subject.ask, label) for label in ("", "b-"))
    for one, other in zip(plain, labelled, strict=True):
        assert one.id != other.id
        assert one.params.prompt != other.params.prompt
        assert one.params.seed == other.params.seed
        assert one.params.num_inference_steps == other.params.num_inference_steps
        assert one.params.guidance_scale == other.params.guidance_scale


def test_every_pair_of_steps_and_guidance_alike(subject: Subject) -> None:
    requests = mixed_requests(27, STEPS, 0, subject.ask)
    pairs = Counter((r.params.num_inference_steps, r.params.guidance_scale) for r in requests)
    assert len(pairs) == 9
    assert set(pairs.values()) == {3}
    assert len({request.params.seed for request in requests}) == 27


@pytest.mark.parametrize("rate", [0.1, 2.0, 50.0])
def test_the_rate_is_the_stated_one(subject: Subject, rate: float) -> None:
    trace = poisson_trace(mixed_requests(100, STEPS, 1, subject.ask), rate, seed=1)
    times = [arrival.at for arrival in trace]
    assert times == sorted(times)
    assert times[0] >= 0
    assert times[-1] <= 100 / rate
    assert times[-1] == pytest.approx(100 / rate, rel=0.1)


def test_gaps_are_those_of_a_poisson_process(subject: Subject) -> None:
    """Exponential: their standard deviation is their mean, and 63 % are below it."""
    times = [a.at for a in poisson_trace(mixed_requests(4000, STEPS, 2, subject.ask), 1.0, seed=2)]
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert sum(gap < 1 for gap in gaps) / len(gaps) == pytest.approx(0.632, abs=0.03)
