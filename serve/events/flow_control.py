"""How much may be sent to one client on a WebSocket before it acknowledges."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from serve.errors import ServiceError
from serve.events.event import Event
from serve.events.progress import LatestProgress, ignore_dropped
from serve.events.schemas import ServerMessage

WINDOW_BYTES = 128 * 1024
MESSAGE_COST_BYTES = 512


class WindowFull(Exception):
    """The client has not acknowledged enough to be sent a durable event or a reply."""


class AckAhead(ServiceError):
    status = 422
    code = "ack_ahead"
    title = "Acknowledged too much"


class SendWindow:
    """Counts the bytes that were sent to one client and that it has not acknowledged.

    A send does not wait for the client, so only this count bounds what piles up on the way
    (docs/decisions/0014-flow-control.md). A text that a method returns is counted, and must be
    sent. A message costs its own bytes and ``MESSAGE_COST_BYTES`` for what relays keep beside it.
    Previews are sent within a quarter of the window, progress within half of it; the rest is for
    durable events and replies.
    """

    def __init__(
        self, window: int = WINDOW_BYTES, *, dropped: Callable[[Event], None] = ignore_dropped
    ) -> None:
        """``dropped`` is told of progress that the client never gets."""
        self._window = window
        self._costs: deque[int] = deque()
        """Of each message that is not acknowledged, oldest first."""
        self._used = 0
        self._acknowledged = 0
        self._latest = LatestProgress(dropped)

    def reply(self, message: ServerMessage) -> str:
        """A reply's text.

        Raises:
            WindowFull: there is no room for it.
        """
        text = message.model_dump_json()
        if not self._count(text, self._window):
            raise WindowFull
        return text

    def event(self, event: Event) -> str | None:
        """The event's text, or None: progress is kept until there is room.

        Raises:
            WindowFull: there is no room for a durable event.
        """
        if event.seq is not None:
            variants = [(event, self._window)]
        else:
            variants = [(event, self._window // 4), (event.without_preview, self._window // 2)]
        for variant, room in variants:
            if self._count(variant.text, room):
                self._latest.drop_older(event)
                return variant.text
        if event.seq is not None:
            raise WindowFull
        self._latest.put(event.without_preview)
        return None

    def acknowledge(self, messages: int) -> list[Event]:
        """Note that the client has received so many messages on this connection in all.

        Returns the kept progress for which there is room now, to be sent. A number below an
        earlier one is ignored.

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
        events = []
        while (event := self._latest.pop()) is not None:
            if not self._count(event.text, self._window // 2):
                self._latest.put(event)
                break
            events.append(event)
        return events

    def _count(self, text: str, room: int) -> bool:
        """Count the text if no more than ``room`` is used with it; returns whether it was."""
        cost = len(text.encode()) + MESSAGE_COST_BYTES
        if self._used + cost > room:
            return False
        self._costs.append(cost)
        self._used += cost
        return True
