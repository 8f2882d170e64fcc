"""What is read once and remembered for a while, and how that is counted."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client.parser import text_string_to_metric_families

from serve.access import remembered
from serve.access.remembered import FRESH_S, Remembered
from serve.observability.registry import Registry
from tests.serve.clock import Clock


async def test_one_reading_serves_all_who_ask_and_each_lookup_is_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, registry, reads = Clock(), Registry(), []
    monkeypatch.setattr(remembered, "monotonic", clock)

    async def read(key: str) -> int:
        reads.append(key)
        await asyncio.sleep(0)
        return len(reads)

    known = Remembered("numbers", read, registry)

    assert await asyncio.gather(*(known.of("a") for _ in range(3))) == [1, 1, 1]
    assert await known.of("a") == 1
    clock.advance(0.6 * FRESH_S)
    assert await known.of("a") == 1, "an old one, read again in the background"
    await asyncio.sleep(0.01)
    assert await known.of("a") == 2
    clock.advance(1.1 * FRESH_S)
    assert await known.of("a") == 3

    assert reads == ["a"] * 3
    assert lookups(registry, "numbers") == {"miss": 4, "hit": 3}


def lookups(registry: Registry, cache: str) -> dict[str, float]:
    page, _ = registry.render("")
    return {
        sample.labels["result"]: sample.value
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
        if sample.name == "sfumato_cache_lookups_total" and sample.labels["cache"] == cache
    }
