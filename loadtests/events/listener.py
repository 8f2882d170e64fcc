"""A client that costs as little as a client can, so that thousands of them measure the service."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.uri import parse_uri

from loadtests.events.service import Acknowledgements, Service


class Listener(asyncio.Protocol):
    """One connection: `hear` is called with each message as it arrives, which is acknowledged.

    websockets' rules without its tasks and queues, which are a third of what a message costs.
    """

    def __init__(self, service: Service, hear: Callable[[bytes], None]) -> None:
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._hear = hear
        self._acknowledgements = Acknowledgements()
        self._rules = ClientProtocol(parse_uri(service.events_url))
        self._headers = service.headers

    @classmethod
    async def open(cls, service: Service, hear: Callable[[bytes], None]) -> Listener:
        """A connection that has shaken hands.

        Raises:
            OSError: nobody listens there, or who does hangs up.
            websockets.exceptions.InvalidHandshake: the service refuses.
        """
        listener = cls(service, hear)
        uri = listener._rules.uri
        await asyncio.get_running_loop().create_connection(lambda: listener, uri.host, uri.port)
        await listener._opened
        return listener

    def send(self, text: str) -> None:
        self._rules.send_text(text.encode())
        self._flush()

    def abort(self) -> None:
        """Without the closing handshake: thousands of them would take a while."""
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        request = self._rules.connect()
        request.headers.update(self._headers)
        self._rules.send_request(request)
        self._flush()

    def data_received(self, data: bytes) -> None:
        self._rules.receive_data(data)
        for event in self._rules.events_received():
            if not isinstance(event, Frame):
                self._shake_hands()
            elif event.opcode is Opcode.TEXT:
                self._hear(bytes(event.data))
                if (acknowledgement := self._acknowledgements.received()) is not None:
                    self._rules.send_text(acknowledgement.encode())
        self._flush()

    def connection_lost(self, error: Exception | None) -> None:
        if not self._opened.done():
            self._opened.set_exception(error or ConnectionError("The service hung up."))
        self.closed.set_result(None)

    def _shake_hands(self) -> None:
        if (refusal := self._rules.handshake_exc) is not None:
            self._opened.set_exception(refusal)
            self.abort()
        else:
            self._opened.set_result(None)

    def _flush(self) -> None:
        if (data := b"".join(self._rules.data_to_send())) and not self._transport.is_closing():
            self._transport.write(data)
