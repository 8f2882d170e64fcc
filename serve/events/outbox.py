"""What may go out to one client on a WebSocket: no more than it acknowledges."""

from __future__ import annotations

from collections import deque
from functools import lru_cache

from serve.errors import ServiceError
from serve.events.bus import Event
from serve.events.schemas import ServerMessage
from serve.events.subscription import LatestProgress

WINDOW_BYTES = 128 * 1024
MESSAGE_COST_BYTES = 512


class WindowFull(Exception):
    """The client has not acknowledged enough to be told a durable event."""


class AckAhead(ServiceError):
    status = 422
    code = "ack_ahead"
    title = "Acknowledged too much"


class Outbox:
    """Says what to send, and counts the bytes of what the client has not acknowledged.

    A send need not wait for the client, so that this count alone bounds what piles up on the
    way: what a method returns is counted already, and must be sent. A message costs its own bytes
    and ``MESSAGE_COST_BYTES`` for what relays keep beside it. Previews are told within a quarter
    of the window, progress within half of it; the rest belongs to durable events.
    """

    def __init__(self, window: int = WINDOW_BYTES) -> None:
        self._window = window
        self._costs: deque[int] = deque()
        """Of each message that is not acknowledged, oldest first."""
        self._used = 0
        self._acknowledged = 0
        self._later = LatestProgress()

    def reply(self, message: ServerMessage) -> str:
        """An answer's text.

        Raises:
            WindowFull: there is no room for it.
        """
        return self._counted(message.model_dump_json())

    def takes(self, event: Event) -> bool:
        """Whether there is room for it; progress, which can wait here, is always taken."""
        return event.seq is None or self._fits(event.text, self._window)

    def tell(self, event: Event) -> str | None:
        """The event's text; None keeps progress until there is room.

        Raises:
            WindowFull: there is no room for a durable one.
        """
        if event.seq is not None or self._fits(event.text, self._window // 4):
            self._later.outdate(event)
            return self._counted(event.text)
        if self._fits(event.without_preview.text, self._window // 2):
            self._later.outdate(event)
            return self._counted(event.without_preview.text)
        self._later.put(event.without_preview)
        return None

    def acknowledge(self, messages: int) -> list[str]:
        """The client has received so many messages on this connection in all: the texts of what
        was kept, as far as there is room now.

        A number below an earlier one says nothing new.

        Raises:
            AckAhead: it is more than were sent.
        """
        sent = self._acknowledged + len(self._costs)
        if messages > sent:
            raise AckAhead(
                f"`messages` is {messages}, but {sent} were sent; count every message of this"
                " connection once.",
                param="messages",
            )
        while self._acknowledged < messages:
            self._used -= self._costs.popleft()
            self._acknowledged += 1
        texts = []
        while (event := self._later.pop()) is not None:
            if not self._fits(event.text, self._window // 2):
                self._later.put(event)
                break
            texts.append(self._counted(event.text))
        return texts

    def _fits(self, text: str, room: int) -> bool:
        return self._used + _cost(text) <= room

    def _counted(self, text: str) -> str:
        if not self._fits(text, self._window):
            raise WindowFull
        cost = _cost(text)
        self._costs.append(cost)
        self._used += cost
        return text


@lru_cache(maxsize=256)
def _cost(text: str) -> int:
    return len(text.encode()) + MESSAGE_COST_BYTES
