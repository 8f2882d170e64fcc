"""One client on the events WebSocket, and how many clients there may be."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Coroutine, Iterator
from datetime import UTC, datetime
from time import monotonic
from typing import Any, Literal, TypeVar
from uuid import UUID

from pydantic import ValidationError
from starlette.websockets import WebSocket, WebSocketDisconnect
from structlog.contextvars import bind_contextvars

from serve.access.auth import MissingKey, key_of
from serve.access.keys import InvalidKey, Keys, Principal
from serve.access.scopes import InsufficientScope, Scope
from serve.access.tickets import InvalidTicket, Tickets, TicketsUnavailable
from serve.errors import ServiceError
from serve.events.delivered import record_delivery
from serve.events.event import Event
from serve.events.feed import Feed, Feeds
from serve.events.flow_control import SendWindow, WindowFull
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
from serve.events.tally import EventTally
from serve.http.address import may_connect
from serve.http.fields import printable
from serve.http.problems import Problem, problem_of
from serve.http.provided import Provided
from serve.observability.meter import UNMETERED, Meter
from serve.observability.metrics import EVENT_SOCKETS
from serve.settings import Settings

MAX_UNAUTHENTICATED = 200
"""Connections at once that have not sent a valid key yet."""
MAX_MESSAGE_CHARS = 16 * 1024
MAX_WATCHED = 200
AUTHENTICATE_WITHIN_S = 10.0
CHECK_KEY_EVERY_S = 15.0
"""At the latest."""
ACKNOWLEDGE_WITHIN_S = 5.0
"""After the window became full."""

T = TypeVar("T")


class CloseSocket(Exception):
    """Ends the connection with a code of RFC 6455, 4401 for no valid key or ticket, or 4403 for a
    key that may not read. The client is sent the problem first, if there is one."""

    def __init__(
        self,
        code: Literal[1003, 1008, 1009, 1012, 1013, 4401, 4403],
        reason: str,
        problem: Problem | None = None,
    ) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.problem = problem


class TooManyWatched(ServiceError):
    status = 429
    code = "too_many_watched"
    title = "Too many jobs followed"


class AlreadyAuthenticated(ServiceError):
    status = 409
    code = "already_authenticated"
    title = "Authenticated already"


class OpenSockets:
    """Counts the WebSockets of one process, and bounds them."""

    def __init__(self, most_per_tenant: int, meter: Meter = UNMETERED) -> None:
        self._most_per_tenant = most_per_tenant
        self._meter = meter
        self._open: Counter[UUID | None] = Counter()
        self._total = 0

    @contextlib.contextmanager
    def counted(self, tenant_id: UUID | None) -> Iterator[None]:
        """While the connection is open; None is for one whose key is not known yet.

        Raises:
            CloseSocket: as many are open as may be.
        """
        most = self._most_per_tenant
        if tenant_id is None and self._open[None] >= MAX_UNAUTHENTICATED:
            raise CloseSocket(1013, "Too many connections wait for their keys; connect again.")
        if tenant_id is not None and self._open[tenant_id] >= most:
            raise CloseSocket(1013, f"{most} connections are open; close some.")
        self._add(tenant_id, 1)
        try:
            yield
        finally:
            self._add(tenant_id, -1)
            if not self._open[tenant_id]:
                del self._open[tenant_id]

    def _add(self, tenant_id: UUID | None, number: int) -> None:
        self._open[tenant_id] += number
        self._total += number
        self.sample()

    def sample(self) -> None:
        """Tell how many are open; from any thread. Ray forgets a gauge that is not set for 20 s."""
        self._meter.set(EVENT_SOCKETS, self._total)


class EventSocket:
    """Follows jobs for one client until it leaves, is too slow, or the server stops.

    Only one task works with the feed, and it waits for one `asyncio.Event`: with thousands of
    sockets that follow the same jobs, the cost of a wait is the cost of an event
    (docs/decisions/0029-what-an-event-costs.md).
    """

    def __init__(
        self,
        websocket: WebSocket,
        feeds: Provided[Feeds],
        keys: Provided[Keys],
        tickets: Provided[Tickets],
        settings: Provided[Settings],
        sockets: Provided[OpenSockets],
        tally: Provided[EventTally],
    ) -> None:
        self._websocket = websocket
        self._sockets = sockets
        self._feeds = feeds
        self._keys = keys
        self._tickets = tickets
        self._allowed_origins = settings.http.allowed_origins
        self._tally = tally
        self._window = SendWindow(dropped=tally.dropped)
        self._following_since = datetime.now(UTC)
        """Earlier events were there before the client asked for them."""
        self._watched: set[UUID] = set()
        self._held: Event | None = None
        """Waits for acknowledgements; nothing is taken from the feed meanwhile."""
        self._patience: asyncio.Task[None] | None = None
        """Ends when an event was held for too long."""

    async def serve(self) -> None:
        """Accept, and follow until the connection ends."""
        if not may_connect(self._websocket, self._allowed_origins):
            await self._websocket.close()  # not accepted yet: HTTP 403
            return
        await self._websocket.accept()
        try:
            with self._sockets.counted(None):
                principal = await self._authenticate()
            bind_contextvars(tenant_id=str(principal.tenant_id))
            with self._sockets.counted(principal.tenant_id):
                async with self._feeds.open(principal.tenant_id) as feed:
                    # A task of its own wakes without going through the layers around it.
                    await asyncio.create_task(self._follow(feed, principal))
        except CloseSocket as end:
            await self._close(end)
        except WindowFull:
            reason = "Acknowledge what you read, or connect again and resume."
            await self._close(CloseSocket(1013, reason))
        except WebSocketDisconnect:
            return

    async def _authenticate(self) -> Principal:
        """The caller, whose key may read."""
        try:
            principal = await self._principal()
            principal.require(Scope.READ)
        except InsufficientScope as error:
            raise CloseSocket(4403, error.message, problem_of(error)) from error
        except (MissingKey, InvalidKey, InvalidTicket) as error:
            raise CloseSocket(4401, error.message, problem_of(error)) from error
        except TicketsUnavailable as error:
            reason = "Tickets are not available; send the key instead."
            raise CloseSocket(1013, reason, problem_of(error)) from error
        except ValidationError as error:
            reason = "The first message must be `authenticate`."
            raise CloseSocket(4401, reason, _invalid_message(error)) from error
        except TimeoutError as error:
            raise CloseSocket(4401, "No key came in time.") from error
        return principal

    async def _principal(self) -> Principal:
        """The caller: by ticket, by the headers or, without either, by the first message."""
        ticket, token = self._websocket.query_params.get("ticket"), key_of(self._websocket)
        if ticket:
            principal = await self._tickets.redeem(ticket)
            await self._keys.confirm(principal)
            return principal
        if token is not None:
            return await self._keys.authenticate(token)
        async with asyncio.timeout(AUTHENTICATE_WITHIN_S):
            message = _parse(await self._receive())
        if not isinstance(message, Authenticate):
            raise MissingKey('Send {"type": "authenticate", "key": "sfm_…"} first.')
        principal = await self._keys.authenticate(message.key)
        await self._reply(Authenticated())
        return principal

    async def _follow(self, feed: Feed, principal: Principal) -> None:
        """Wait once for all that may happen: each of these tasks wakes the feed when it is done."""
        stopping = _wake_when_done(feed, self._websocket.app.state.stopping.wait())
        receiving = _wake_when_done(feed, self._receive())
        checking = _wake_when_done(feed, _until_key_check())
        try:
            while True:
                feed.wakeup.clear()
                if stopping.done():
                    raise CloseSocket(1012, "The server restarts; connect again.")
                if receiving.done():
                    await self._handle(receiving.result(), feed)
                    receiving = _wake_when_done(feed, self._receive())
                await self._deliver(feed)
                if checking.done():
                    if not await self._keys.may_stay(principal):
                        raise CloseSocket(4401, "This API key is not valid any more.")
                    checking = _wake_when_done(feed, _until_key_check())
                await feed.wakeup.wait()
        finally:
            tasks = [stopping, receiving, checking, *([self._patience] if self._patience else [])]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _deliver(self, feed: Feed) -> None:
        """Send what is ready, as far as the client's window allows."""
        if feed.overrun:
            raise CloseSocket(1013, "Too slow: connect again and resume by number.")
        while True:
            while (event := self._held or feed.ready()) is not None:
                try:
                    text = self._window.event(event)
                except WindowFull:
                    self._hold(event, feed)
                    return
                self._held = None
                if self._patience is not None:
                    self._patience.cancel()
                    self._patience = None
                if event.type.terminal:
                    self._watched.discard(event.job_id)
                if text is not None:
                    began = monotonic()
                    await self._websocket.send_text(text)
                    record_delivery(event, "websocket", began)
                    self._tally.sent(event, self._following_since)
            if not feed.behind:
                return
            await feed.read_behind()

    def _hold(self, event: Event, feed: Feed) -> None:
        """Keep the event until the client acknowledges enough.

        Raises:
            WindowFull: it had ``ACKNOWLEDGE_WITHIN_S`` to do so.
        """
        self._held = event
        if self._patience is None:
            self._patience = _wake_when_done(feed, asyncio.sleep(ACKNOWLEDGE_WITHIN_S))
        elif self._patience.done():
            raise WindowFull

    async def _handle(self, text: str, feed: Feed) -> None:
        job_id: UUID | None = None
        try:
            message = _parse(text)
            job_id = getattr(message, "job_id", None)
            await self._execute(message, feed)
        except ValidationError as error:
            await self._reply(ErrorOut(problem=_invalid_message(error)))
        except ServiceError as error:
            await self._reply(ErrorOut(problem=problem_of(error), job_id=job_id))

    async def _execute(self, message: ClientMessage, feed: Feed) -> None:
        match message:
            case Watch(job_id=job_id, after=after):
                if job_id not in self._watched and len(self._watched) >= MAX_WATCHED:
                    raise TooManyWatched(
                        f"A connection follows {MAX_WATCHED} jobs at most; unwatch some,"
                        " or use `watch_all`."
                    )
                self._following_since = datetime.now(UTC)
                await feed.watch(job_id, after)
                self._watched.add(job_id)
            case Unwatch(job_id=job_id):
                feed.unwatch(job_id)
                self._watched.discard(job_id)
            case WatchAll():
                self._following_since = datetime.now(UTC)
                await feed.watch_all()
            case Ack(messages=messages):
                for event in self._window.acknowledge(messages):
                    await self._websocket.send_text(event.text)
                    self._tally.sent(event, self._following_since)
            case Authenticate():
                raise AlreadyAuthenticated("This connection has its key already.")

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
        await self._websocket.send_text(self._window.reply(message))

    async def _close(self, end: CloseSocket) -> None:
        with contextlib.suppress(RuntimeError, WebSocketDisconnect):
            if end.problem is not None:
                await self._reply(ErrorOut(problem=end.problem))
            await self._websocket.close(end.code, end.reason)


def _parse(text: str) -> ClientMessage:
    try:
        return client_message.validate_json(text)
    except ValidationError as error:
        if error.errors()[0]["type"] == "json_invalid":
            raise CloseSocket(1003, "Messages are JSON text.") from error
        raise


def _invalid_message(error: ValidationError) -> Problem:
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"][1:])
    return Problem(
        title="Invalid message",
        status=422,
        detail=printable(f"{field}: {first['msg']}" if field else first["msg"]),
        code="invalid_message",
        param=printable(field, 100) or None,
    )


async def _until_key_check() -> None:
    """Sleep for a random time, so that many sockets do not check their keys at one moment."""
    await asyncio.sleep(CHECK_KEY_EVERY_S * random.uniform(0.5, 1))  # noqa: S311


def _wake_when_done(feed: Feed, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """A task that wakes the one who waits for the feed once it is done."""
    task = asyncio.create_task(work)
    task.add_done_callback(lambda _: feed.wakeup.set())
    return task
