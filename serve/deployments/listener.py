"""uvicorn's HTTP and WebSockets, with bounds on what a client sends before the app sees it."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from uvicorn.config import HTTP_PROTOCOLS, WS_PROTOCOLS
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.datastructures import Headers
from websockets.frames import CloseCode
from websockets.http11 import Request, Response
from websockets.protocol import State

HEAD_TIMEOUT_S = 10.0
"""As HAProxy has it."""
MAX_HEAD_BYTES = 64 * 1024
"""Above what `RequestLimits` lets pass, so that it answers where it can."""

MAX_MESSAGE_BYTES = 64 * 1024
"""Four times the characters that an `EventSocket` takes, so that it can refuse by itself."""
BURST_FRAMES, FRAMES_A_SECOND = 1000, 100
BURST_BYTES, BYTES_A_SECOND = 1024 * 1024, 64 * 1024
_SLICE_BYTES = 4096
"""Read at once: some hundred frames, so that a flood ends within milliseconds."""


class BoundedHead(HttpToolsProtocol):
    """uvicorn's HTTP, which waits `HEAD_TIMEOUT_S` for a head of `MAX_HEAD_BYTES` at most.

    For a connection's first head the time begins with the connection; for each further head with
    its first byte, before which uvicorn's keep-alive counts. A slow head is answered with 408, one
    that is too long with 431, and nothing with nothing. Then the connection is closed.
    """

    _timer: asyncio.TimerHandle | None = None
    _bytes = 0
    """Received of the present head."""
    _in_body = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._timer is None and not self._in_body:
            self._await_head()  # blank lines, too, which the parser skips
        self._bytes += len(data)
        super().data_received(data)
        if self._timer is not None and self._bytes > MAX_HEAD_BYTES:
            self._refuse(b"431 Request Header Fields Too Large", b"The head is too long.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._timer is None:
            self._await_head()
            self._bytes = 1  # or more, which came with the end of the request before

    def on_headers_complete(self) -> None:
        self._stop_waiting()
        self._in_body = True
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_body = False
        super().on_message_complete()

    def _await_head(self) -> None:
        self._bytes = 0
        self._timer = self.loop.call_later(HEAD_TIMEOUT_S, self._end)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _end(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._timer = self.loop.call_later(
                HEAD_TIMEOUT_S, self._end
            )  # the response comes first
        elif self._bytes:
            self._refuse(b"408 Request Timeout", b"The head did not come in time.")
        else:
            self.transport.close()

    def _refuse(self, status: bytes, body: bytes) -> None:
        self._stop_waiting()
        lines = [
            b"HTTP/1.1 " + status,
            *(name + b": " + value for name, value in self.server_state.default_headers),
            b"content-type: text/plain; charset=utf-8",
            b"content-length: %d" % len(body),
            b"connection: close",
            b"",
            body,
        ]
        self.transport.write(b"\r\n".join(lines))
        self.transport.close()


def bound_heads() -> None:
    """Have uvicorn use `BoundedHead` in this process from now on."""
    HTTP_PROTOCOLS["auto"] = f"{__name__}:{BoundedHead.__name__}"


class BoundedSocket(WebSocketsSansIOProtocol):
    """uvicorn's WebSocket, which closes with 1008 if a client sends too much.

    Frames of all kinds count, pings and empty fragments too: each must be parsed. If an address has
    ``most_per_address`` connections, the next gets 503.
    """

    most_per_address: int | None = None
    _connections: Counter[str] = Counter()  # noqa: RUF012 - of all in this process

    def __init__(self, config: Any, *args: Any, **kwargs: Any) -> None:
        # Each message would be compressed anew for each client, and save a few hundred bytes.
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
        """Answer instead of accepting; websockets itself leaves a bad handshake unanswered."""
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
        """Take the amount in any case; whether there was enough."""
        self._left = min(self._burst, self._left + self._rate * (now - self._at)) - amount
        self._at = now
        return not self.spent


def bound_sockets(most_per_address: int) -> None:
    """Have uvicorn use `BoundedSocket` in this process from now on."""
    BoundedSocket.most_per_address = most_per_address
    WS_PROTOCOLS["auto"] = f"{__name__}:{BoundedSocket.__name__}"
