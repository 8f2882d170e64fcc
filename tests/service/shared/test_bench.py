"""`sfumato bench served`, with little of everything: that it measures, not how much."""

from __future__ import annotations

import pytest

from serve.cli.comparison import Client
from serve.cli.peer import PeerBench, PeerPlan
from serve.cli.served import Plan, ServedBench
from serve.settings import Settings
from tests.service.conftest import KEY, Service


async def test_the_service_beside_the_bare_engine(service: Service) -> None:
    plan = Plan(steps=(1, 2), rounds=5, pictures=4, requests=6, load=0.5)
    bench = ServedBench(Settings(port=service.port), KEY, plan)
    pairs, parts = await bench.measure()
    assert [pair.what.split(",")[0] for pair in pairs[:4]] == [
        "1 steps alone",
        "2 steps alone",
        "1 steps",
        "2 steps",
    ]
    assert [pair.what.split(", ")[1] for pair in pairs[4:]] == ["p50", "p95"]
    alone = pairs[1]
    assert 0 < alone.other < alone.served, "the service cannot be faster than its engine"
    assert all(pair.other > 0 and pair.served > 0 for pair in pairs)
    for part in ("accepting", "drawing", "storing", "committing", "telling"):
        assert 0 < getattr(parts, part) < 60, part
    assert pairs[2].ratio == pytest.approx(pairs[2].served / pairs[2].other)


async def test_the_service_beside_a_peer(service: Service) -> None:
    """Which is the service again."""
    bench = PeerBench(Client(service.url, KEY), Client(service.url, KEY), PeerPlan().quick())
    await bench.measure()
    assert [pair.what.split(",")[0] for pair in bench.pairs] == [
        "mixed steps",
        *["mixed steps at load 0.6"] * 2,
        "2 steps",
        *["2 steps at load 0.6"] * 2,
    ]
    assert all(0 < pair.other < 60 and 0 < pair.served < 60 for pair in bench.pairs)
