"""What stops `sfumato up` before it has started anything."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from serve.cli.up import StartFailed, check_port
from serve.settings import Settings


@pytest.fixture(params=["127.0.0.1", "::1"])
def taken(request: pytest.FixtureRequest) -> Iterator[Settings]:
    """Settings whose port somebody listens on."""
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    try:
        listener = socket.create_server((request.param, 0), family=family)
    except OSError:
        pytest.skip(f"this machine has no {request.param}")
    with listener:
        yield Settings(host=request.param, port=listener.getsockname()[1])


def test_a_port_that_is_taken(taken: Settings) -> None:
    with pytest.raises(StartFailed, match=f"Port {taken.port} of {taken.host} is taken: stop"):
        check_port(taken)


def test_a_port_that_is_free_stays_free(taken: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
    free = taken.model_copy(update={"port": port})
    check_port(free)
    check_port(free)


def test_an_address_of_another_machine() -> None:
    with pytest.raises(StartFailed, match="set SFUMATO_HOST to an address of this machine"):
        check_port(Settings(host="192.0.2.1", port=8000))
