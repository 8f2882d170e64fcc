"""Ports of this machine."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from serve.local.errors import StartFailed

_RANGES = range(30_000, 32_000, 100)
"""Below the ports that Linux gives to clients, and above those of Ray's workers."""


def free_port() -> int:
    """A port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def port_range() -> Iterator[range]:
    """Ports that no other installation on this machine uses meanwhile.

    The process that listens on the first port of a range has the whole range.

    Raises:
        StartFailed: all are taken.
    """
    for first in _RANGES:
        with socket.socket() as mark:
            try:
                mark.bind(("127.0.0.1", first))
                mark.listen(1)
            except OSError:
                continue
            yield range(first + 1, first + _RANGES.step)
            return
    raise StartFailed(
        f"Each of the port ranges from {_RANGES.start} to {_RANGES.stop} is taken: stop another"
        " installation of this machine, or unset SFUMATO_HAPROXY."
    )
