"""A port that a server gets is not one that Linux gives to whoever asks for any."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from serve.local import port
from serve.local.errors import StartFailed
from serve.local.port import free_port


def test_no_process_gets_it_by_chance() -> None:
    by_chance = Path("/proc/sys/net/ipv4/ip_local_port_range")
    if not by_chance.exists():
        pytest.skip("not Linux")
    first, last = map(int, by_chance.read_text().split())
    assert not first <= free_port() <= last


def test_nobody_listens_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = free_port()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", taken))
        listener.listen()
        monkeypatch.setattr(port, "_PORTS", range(taken, taken + 3))
        assert free_port() in (taken + 1, taken + 2)
        monkeypatch.setattr(port, "_PORTS", range(taken, taken + 1))
        with pytest.raises(StartFailed, match=f"Each port from {taken} to {taken} is taken"):
            free_port()
