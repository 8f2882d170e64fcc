"""The way past ASGI to a WebSocket's connection, on which nothing needs to be awaited."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from functools import lru_cache

from starlette.types import Receive
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import State


class Wire:
    """Writes text messages to one client, whoever else is told the same.

    What ASGI's ``send`` does for a message, on its way through the layers, is the same for all
    who are told it: so the frame is made once, and written at once or not at all.
    """

    def __init__(self, protocol: WebSocketsSansIOProtocol) -> None:
        self._protocol = protocol

    @classmethod
    def behind(cls, receive: Receive) -> Wire | None:
        """The wire from which ``receive`` brings messages.

        None where that isn't uvicorn's own on this loop, as under a test client or where Serve's
        proxy is another process; and where messages are compressed, for each client anew.
        """
        protocol = getattr(receive, "__self__", None)
        if (
            isinstance(protocol, WebSocketsSansIOProtocol)
            and protocol.loop is asyncio.get_running_loop()
            and not protocol.conn.extensions
        ):
            return cls(protocol)
        return None

    @property
    def free(self) -> bool:
        """Whether a message can be written now: the connection is open, and what was written
        before has not piled up."""
        protocol = self._protocol
        return (
            protocol.writable.is_set()
            and protocol.conn.state is State.OPEN
            and not protocol.transport.is_closing()
        )

    def write(self, texts: Iterable[str]) -> None:
        """Write the messages, after all that was sent; only while the wire is free."""
        self._protocol.transport.write(b"".join(map(_frame, texts)))


@lru_cache(maxsize=64)
def _frame(text: str) -> bytes:
    return Frame(Opcode.TEXT, text.encode()).serialize(mask=False)
