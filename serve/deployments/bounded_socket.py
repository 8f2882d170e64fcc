"""WebSockets as the listener has them: what a client may send is bounded while it arrives."""

from __future__ import annotations

from collections import Counter
from typing import Any

from uvicorn.config import WS_PROTOCOLS
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.datastructures import Headers
from websockets.frames import CloseCode
from websockets.http11 import Request, Response
from websockets.protocol import State

MAX_MESSAGE_BYTES = 64 * 1024
"""Four times the characters that an `EventSocket` takes: it tells what is above its own limit."""
BURST_FRAMES, FRAMES_A_SECOND = 1000, 100
BURST_BYTES, BYTES_A_SECOND = 1024 * 1024, 64 * 1024
_SLICE_BYTES = 4096
"""Read at once: some hundred frames, so that a flood ends within milliseconds."""


class BoundedSocket(WebSocketsSansIOProtocol):
    """uvicorn's WebSocket, which ends with 1008 for a client that sends more than is let in.

    Frames of all kinds count, pings and empty fragments too: each costs its parsing, whatever is
    in it. So many connections one address may have; the next gets 503.
    """

    most_per_address: int | None = None
    _connections: Counter[str] = Counter()  # noqa: RUF012 - of all in this process

    def __init__(self, config: Any, *args: Any, **kwargs: Any) -> None:
        # Each message would be compressed for each client anew, to be a few hundred bytes fewer.
        config.ws_per_message_deflate = False
        config.ws_max_size = MAX_MESSAGE_BYTES
        super().__init__(config, *args, **kwargs)
        self._frames = _Allowance(BURST_FRAMES, FRAMES_A_SECOND, self.loop.time())
        self._bytes = _Allowance(BURST_BYTES, BYTES_A_SECOND, self.loop.time())
        self._address: str | None = None

    def data_received(self, data: bytes) -> None:
        now = self.loop.time()
        for start in range(0, len(data), _SLICE_BYTES):
            piece = data[start : start + _SLICE_BYTES]
            if not self._bytes.takes(len(piece), now) or self._frames.spent:
                self._end_flood()
                return
            super().data_received(piece)
            if self.conn.handshake_exc is not None and not self.handshake_initiated:
                self._answer(400, "Bad Request", "This is no handshake of a WebSocket.")
            if self.transport.is_closing():
                return

    def handle_events(self) -> None:
        self._frames.takes(len(self.conn.events), self.loop.time())
        super().handle_events()

    def handle_connect(self, event: Request) -> None:
        address = self.client[0] if self.client else ""
        if self.most_per_address and self._connections[address] >= self.most_per_address:
            self._answer(
                503,
                "Service Unavailable",
                "This address has as many WebSockets as it may; close some.",
            )
            return
        self._address = address
        self._connections[address] += 1
        super().handle_connect(event)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._address is not None:
            self._connections[self._address] -= 1
            if not self._connections[self._address]:
                del self._connections[self._address]
            self._address = None
        super().connection_lost(exc)

    def _answer(self, status: int, reason: str, sentence: str) -> None:
        """In place of a WebSocket; websockets by itself leaves an odd handshake unanswered."""
        body = sentence.encode()
        headers = Headers({"Content-Length": str(len(body)), "Connection": "close"})
        self.handshake_initiated = self.handshake_complete = self.close_sent = True
        response = Response(status, reason, headers, body)
        self.transport.write(response.serialize())
        self.transport.close()

    def _end_flood(self) -> None:
        if self.conn.state is State.OPEN:
            self.conn.fail(CloseCode.POLICY_VIOLATION, "Too much at once.")
            self.handle_parser_exception()
            self.disconnected = True  # for the app, which may be about to send
        else:
            self.transport.abort()


class _Allowance:
    """A token bucket: ``burst`` at once, and ``rate`` a second."""

    def __init__(self, burst: int, rate: int, now: float) -> None:
        self._burst = burst
        self._rate = rate
        self._left = float(burst)
        self._at = now

    @property
    def spent(self) -> bool:
        return self._left < 0

    def takes(self, amount: int, now: float) -> bool:
        """Takes it in any case; whether there was enough."""
        self._left = min(self._burst, self._left + self._rate * (now - self._at)) - amount
        self._at = now
        return not self.spent


def bound_sockets(most_per_address: int) -> None:
    """uvicorn's servers of this process, whoever makes them, have bounded sockets from now on."""
    BoundedSocket.most_per_address = most_per_address
    WS_PROTOCOLS["auto"] = f"{__name__}:{BoundedSocket.__name__}"
