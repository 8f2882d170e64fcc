"""What the ranking is for, on a queue in simulated time; ADR 0007 has the whole table."""

from __future__ import annotations

import pytest

from tests.pipelines.diffusion.batching.queue_simulation import Outcome, outcome


def run(policy: str, device: str, lanes: int, load: float) -> Outcome:
    return outcome(policy, device, lanes, load, jobs=300, seed=1)


@pytest.mark.parametrize("device", ["launch-bound", "between", "saturated"])
@pytest.mark.parametrize("lanes", [1, 3])
@pytest.mark.parametrize("load", [0.6, 0.85])
def test_slack_does_better_than_taking_turns(device: str, lanes: int, load: float) -> None:
    slack = run("slack, saturating", device, lanes, load)
    for policy in ("alternating", "static"):
        other = run(policy, device, lanes, load)
        assert slack.share >= other.share
        assert slack.p50 < 1.01 * other.p50


@pytest.mark.parametrize("load", [0.6, 0.85])
def test_against_static_batches_of_one_size(load: float) -> None:
    static = run("static", "between", 1, load)
    slack = run("slack, saturating", "between", 1, load)
    assert slack.share > static.share + 0.3
    assert slack.p50 < static.p50 / 2
    assert slack.p95 < static.p95


@pytest.mark.parametrize("lanes", [1, 3])
def test_a_step_ends_where_the_device_saturates(lanes: int) -> None:
    full, saturating = (
        run(policy, "saturated", lanes, 0.85) for policy in ("slack", "slack, saturating")
    )
    assert saturating.share > full.share + 0.1
    assert saturating.p50 < full.p50


@pytest.mark.parametrize("lanes", [1, 3])
def test_overload_does_not_make_all_of_them_late(lanes: int) -> None:
    slack, deadline = (
        run(policy, "launch-bound", lanes, 1.1) for policy in ("slack", "earliest deadline")
    )
    assert slack.share > deadline.share + 0.1
