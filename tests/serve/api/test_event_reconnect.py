"""The load test of clients that all come at once, against a server that tells."""

from __future__ import annotations

from loadtests.events.reconnect import storm
from loadtests.events.service import Service


async def test_all_who_come_at_once_are_told_what_they_missed(server: str, key: str) -> None:
    result = await storm(Service(server, key), sockets=60, settle_s=0)
    assert len(result.resumed) == 60
    assert "60 of 60 resumed" in str(result)
