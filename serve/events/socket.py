"""One client on the events WebSocket."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Coroutine, Sequence
from typing import Any, Literal, TypeVar
from uuid import UUID

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from starlette.websockets import WebSocket, WebSocketDisconnect

from serve.access.auth import MissingKey, key_of
from serve.access.keys import InvalidKey, Keys, Principal
from serve.access.scopes import InsufficientScope, Scope
from serve.access.tickets import InvalidTicket, Tickets, TicketsUnavailable
from serve.errors import ServiceError
from serve.events.bus import Event
from serve.events.feed import Feed
from serve.events.feeds import Feeds
from serve.events.open_sockets import NoRoom, OpenSockets
from serve.events.outbox import Outbox, WindowFull
from serve.events.schemas import (
    Ack,
    Authenticate,
    Authenticated,
    ClientMessage,
    ErrorOut,
    ServerMessage,
    Unwatch,
    Watch,
    WatchAll,
    client_message,
)
from serve.http.origin import may_connect
from serve.http.problem import Problem
from serve.http.problems import problem_of
from serve.http.text import printable

MAX_MESSAGE_CHARS = 16 * 1024
MAX_WATCHED = 200
AUTHENTICATE_WITHIN_S = 10.0
CHECK_KEY_EVERY_S = 15.0
"""At the latest."""
ACKNOWLEDGE_WITHIN_S = 5.0
"""Of a full window."""

T = TypeVar("T")


class CloseSocket(Exception):
    """Ends the connection with a code of RFC 6455, 4401 for no valid key or ticket, or 4403 for a
    key that may not read."""

    def __init__(
        self, code: Literal[1003, 1008, 1009, 1012, 1013, 4401, 4403], reason: str
    ) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class EventSocket:
    """Follows jobs for one client until it leaves, falls behind, or the server stops.

    One task alone works with the feed, and it waits for one thing alone: with thousands of
    sockets that follow the same jobs, what a wait costs is what an event costs.
    """

    def __init__(
        self,
        websocket: WebSocket,
        feeds: Feeds,
        keys: Keys,
        tickets: Tickets,
        allowed_origins: Sequence[str],
        sockets: OpenSockets,
        stopping: asyncio.Event,
    ) -> None:
        self._websocket = websocket
        self._sockets = sockets
        self._feeds = feeds
        self._keys = keys
        self._tickets = tickets
        self._allowed_origins = allowed_origins
        self._stopping = stopping
        self._outbox = Outbox()
        self._incoming: asyncio.Queue[str] = asyncio.Queue(maxsize=1)
        self._watched: set[UUID] = set()
        self._held: Event | None = None
        """Waits for acknowledgements; nothing is asked of the feed meanwhile."""
        self._patience: _Alarm | None = None
        """With a client that has let its window fill up."""

    async def serve(self) -> None:
        """Accept, and follow until the connection ends."""
        if not may_connect(self._websocket, self._allowed_origins):
            await self._websocket.close()  # not accepted yet: HTTP 403
            return
        await self._websocket.accept()
        try:
            with self._sockets.stranger():
                principal = await self._admitted()
            with self._sockets.of(principal.tenant_id):
                async with self._feeds.open(principal.tenant_id) as feed:
                    # In a task of its own, which wakes without going through the layers around it.
                    await asyncio.create_task(self._follow(feed, principal))
        except CloseSocket as end:
            await self._close(end.code, end.reason)
        except NoRoom as refusal:
            await self._close(1013, str(refusal))
        except WindowFull:
            await self._close(1013, "Acknowledge what you read, or connect again and resume.")
        except WebSocketDisconnect:
            return

    async def _admitted(self) -> Principal:
        """The caller, whose key may read."""
        principal = await self._authenticate()
        try:
            principal.require(Scope.READ)
        except InsufficientScope as error:
            await self._reply(ErrorOut(problem=problem_of(error)))
            raise CloseSocket(4403, error.message) from error
        return principal

    async def _authenticate(self) -> Principal:
        """The caller: by ticket, by the headers or, without either, by the first message."""
        ticket, token = self._websocket.query_params.get("ticket"), key_of(self._websocket)
        try:
            if ticket:
                principal = await self._tickets.redeem(ticket)
                await self._keys.confirm(principal)
                return principal
            if token is not None:
                return await self._keys.authenticate(token)
            async with asyncio.timeout(AUTHENTICATE_WITHIN_S):
                first = _first_key(await self._receive())
            principal = await self._keys.authenticate(first)
        except (MissingKey, InvalidKey, InvalidTicket) as error:
            await self._reply(ErrorOut(problem=problem_of(error)))
            raise CloseSocket(4401, error.message) from error
        except TicketsUnavailable as error:
            await self._reply(ErrorOut(problem=problem_of(error)))
            raise CloseSocket(1013, "Tickets are not available; send the key instead.") from error
        except ValidationError as error:
            await self._reply(ErrorOut(problem=_invalid_message(error)))
            raise CloseSocket(4401, "The first message must be `authenticate`.") from error
        except TimeoutError as error:
            raise CloseSocket(4401, "No key came in time.") from error
        await self._reply(Authenticated())
        return principal

    async def _follow(self, feed: Feed, principal: Principal) -> None:
        """Wait once for all that may happen: whatever does rings the feed's bell."""
        stopping = _ringing(feed.bell, self._stopping.wait())
        reading = _ringing(feed.bell, self._read(feed.bell))
        checking = _key_check(feed.bell)
        try:
            while True:
                feed.bell.clear()
                if stopping.done():
                    raise CloseSocket(1012, "The server restarts; connect again.")
                if not self._incoming.empty():
                    await self._handle(self._incoming.get_nowait(), feed)
                if reading.done() and self._incoming.empty():
                    reading.result()
                await self._deliver(feed)
                if checking.due:
                    if not await self._keys.may_stay(principal):
                        raise CloseSocket(4401, "This API key is not valid any more.")
                    checking = _key_check(feed.bell)
                await feed.bell.wait()
        finally:
            checking.cancel()
            self._release()
            for task in (stopping, reading):
                task.cancel()
            await asyncio.gather(stopping, reading, return_exceptions=True)

    async def _deliver(self, feed: Feed) -> None:
        """Tell what is ready, as far as the client's window goes."""
        if feed.overrun:
            raise CloseSocket(1013, "Too slow: connect again and resume by number.")
        while True:
            while (text := self._next(feed)) is not None:
                await self._websocket.send_text(text)
            if self._held is not None or not feed.behind:
                return
            await feed.read_behind()

    def _next(self, feed: Feed) -> str | None:
        """The next text to send, if anything is ready and the client's window takes it."""
        while (event := self._held or feed.ready()) is not None:
            if not self._outbox.takes(event):
                self._hold(event, feed)
                return None
            self._release()
            if event.type.terminal:
                self._watched.discard(event.job_id)
            if (text := self._outbox.tell(event)) is not None:
                return text
        return None

    def _hold(self, event: Event, feed: Feed) -> None:
        self._held = event
        if self._patience is None:
            self._patience = _Alarm(feed.bell, ACKNOWLEDGE_WITHIN_S)
        elif self._patience.due:
            raise WindowFull

    def _release(self) -> None:
        self._held = None
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    async def _handle(self, text: str, feed: Feed) -> None:
        job_id: UUID | None = None
        try:
            message = _parse(text)
            job_id = getattr(message, "job_id", None)
            await self._obey(message, feed)
        except ValidationError as error:
            await self._reply(ErrorOut(problem=_invalid_message(error)))
        except ServiceError as error:
            await self._reply(ErrorOut(problem=problem_of(error), job_id=job_id))

    async def _obey(self, message: ClientMessage, feed: Feed) -> None:
        match message:
            case Watch(job_id=job_id, after=after):
                if job_id not in self._watched and len(self._watched) >= MAX_WATCHED:
                    raise TooManyWatched(
                        f"A connection follows {MAX_WATCHED} jobs at most; unwatch some,"
                        " or use `watch_all`."
                    )
                await feed.watch(job_id, after)
                self._watched.add(job_id)
            case Unwatch(job_id=job_id):
                feed.unwatch(job_id)
                self._watched.discard(job_id)
            case WatchAll():
                await feed.watch_all()
            case Ack(messages=messages):
                for text in self._outbox.acknowledge(messages):
                    await self._websocket.send_text(text)
            case Authenticate():
                raise AlreadyAuthenticated("This connection has its key already.")

    async def _read(self, bell: asyncio.Event) -> None:
        """Ring for each message; the next is read once there is room for it."""
        while True:
            await self._incoming.put(await self._receive())
            bell.set()

    async def _receive(self) -> str:
        message = await self._websocket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1005))
        text: str | None = message.get("text")
        if text is None:
            raise CloseSocket(1003, "Messages are JSON text.")
        if len(text) > MAX_MESSAGE_CHARS:
            raise CloseSocket(1009, f"A message has {MAX_MESSAGE_CHARS} characters at most.")
        return text

    async def _reply(self, message: ServerMessage) -> None:
        await self._websocket.send_text(self._outbox.reply(message))

    async def _close(self, code: int, reason: str) -> None:
        with contextlib.suppress(RuntimeError, WebSocketDisconnect):
            await self._websocket.close(code, reason)


class TooManyWatched(ServiceError):
    status = 429
    code = "too_many_watched"
    title = "Too many jobs followed"


class AlreadyAuthenticated(ServiceError):
    status = 409
    code = "already_authenticated"
    title = "Authenticated already"


def _parse(text: str) -> ClientMessage:
    try:
        return client_message.validate_json(text)
    except ValidationError as error:
        if error.errors()[0]["type"] == "json_invalid":
            raise CloseSocket(1003, "Messages are JSON text.") from error
        raise


def _first_key(text: str) -> str:
    message = _parse(text)
    if not isinstance(message, Authenticate):
        raise MissingKey('Send {"type": "authenticate", "key": "sfm_…"} first.')
    return message.key


def _invalid_message(error: ValidationError) -> Problem:
    first: ErrorDetails = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"][1:])
    return Problem(
        title="Invalid message",
        status=422,
        detail=printable(f"{field}: {first['msg']}" if field else first["msg"]),
        code="invalid_message",
        param=printable(field, 100) or None,
    )


class _Alarm:
    """Rings the bell once, after so many seconds."""

    def __init__(self, bell: asyncio.Event, after_s: float) -> None:
        self.due = False
        self._bell = bell
        self._timer = asyncio.get_running_loop().call_later(after_s, self._ring)

    def cancel(self) -> None:
        self._timer.cancel()

    def _ring(self) -> None:
        self.due = True
        self._bell.set()


def _key_check(bell: asyncio.Event) -> _Alarm:
    """When to look at the key again: at no moment that many sockets share."""
    return _Alarm(bell, CHECK_KEY_EVERY_S * random.uniform(0.5, 1))  # noqa: S311


def _ringing(bell: asyncio.Event, cause: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """A task that rings the bell once it is done."""
    task = asyncio.create_task(cause)
    task.add_done_callback(lambda _: bell.set())
    return task
