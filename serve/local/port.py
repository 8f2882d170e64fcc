"""Ports of this machine."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from serve.local.errors import StartFailed

# Above the ports of Ray's workers, and below those that Linux gives to whoever asks for any.
_PORTS = range(20_000, 30_000)
_RANGES = range(30_000, 32_000, 100)


def free_port() -> int:
    """A port of loopback that nobody listens on now, and that no process gets by chance.

    Raises:
        StartFailed: all are taken.
    """
    for port in random.sample(_PORTS, len(_PORTS)):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise StartFailed(f"Each port from {_PORTS.start} to {_PORTS.stop - 1} is taken.")


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
