"""Heads of requests as the listener has them: bounded in time and in bytes while they arrive."""

from __future__ import annotations

import asyncio

from uvicorn.config import HTTP_PROTOCOLS
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_TIMEOUT_S = 10.0
"""As HAProxy has it."""
MAX_HEAD_BYTES = 64 * 1024
"""Above what `HeaderLimit` lets pass, so that it answers where it can."""


class BoundedHead(HttpToolsProtocol):
    """uvicorn's HTTP, which waits `HEAD_TIMEOUT_S` for a head, and reads `MAX_HEAD_BYTES` of it.

    The time of a connection's first head begins with the connection, of a further one with its
    first byte: until then uvicorn's own keep-alive counts. A slow head is answered by 408, one
    that is too long by 431; who has sent nothing gets no answer. The connection is closed.
    """

    _timer: asyncio.TimerHandle | None = None
    _bytes = 0
    """Of the head that is awaited."""
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
            self._timer = self.loop.call_later(HEAD_TIMEOUT_S, self._end)  # that comes first
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
    """uvicorn's servers of this process, whoever makes them, have bounded heads from now on."""
    HTTP_PROTOCOLS["auto"] = f"{__name__}:{BoundedHead.__name__}"
