"""A client that follows one job over WebSockets, resuming by the last number it saw."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from itertools import count
from time import monotonic
from uuid import uuid4

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from loadtests.chaos.history import History, Operation, Phase
from loadtests.chaos.insist import GaveUp

_SILENCE_S = 30.0
_TERMINAL = ("job.succeeded", "job.failed", "job.cancelled", "job.expired")


class Follower:
    """Sees each durable event of a job once, however often the connection breaks."""

    def __init__(self, name: str, url: str, key: str, history: History, patience_s: float) -> None:
        """``url`` is the service's, as ``http://``."""
        self._name = name
        self._url = url.replace("http", "ws", 1) + "/v1/events"
        self._headers = {"Authorization": f"Bearer {key}"}
        self._history = history
        self._until = monotonic() + patience_s

    async def follow(self, job_id: str) -> None:
        """Return once the terminal event has come.

        Raises:
            GaveUp: it has not come in time.
        """
        seen = 0
        for attempt in count():
            connection = uuid4().hex[:12]
            told = {"connection": connection, "job_id": job_id}
            self._history.add(self._name, Phase.INVOKE, Operation.WATCH, **told, after=seen)
            try:
                async with aclosing(self._events(job_id, seen)) as events:
                    async for seq, kind in events:
                        self._history.add(
                            self._name, Phase.OK, Operation.EVENT, **told, seq=seq, type=kind
                        )
                        seen = seq
                        if kind in _TERMINAL:
                            return
                reason = "closed"
            except ConnectionClosed as error:
                reason = f"closed {error.rcvd.code if error.rcvd else 'bare'}"
            except (OSError, WebSocketException, TimeoutError, ValueError) as error:
                reason = type(error).__name__
            self._history.add(self._name, Phase.INFO, Operation.WATCH, **told, reason=reason)
            if monotonic() > self._until:
                raise GaveUp(f"no terminal event of {job_id} after number {seen}")
            await asyncio.sleep(min(1.0, 0.1 * 2**attempt))

    async def _events(self, job_id: str, after: int) -> AsyncGenerator[tuple[int, str], None]:
        async with connect(
            self._url,
            additional_headers=self._headers,
            open_timeout=10,
            close_timeout=1,
            proxy=None,
        ) as socket:
            await socket.send(json.dumps({"type": "watch", "job_id": job_id, "after": after}))
            while True:
                async with asyncio.timeout(_SILENCE_S):
                    message = json.loads(await socket.recv())
                if message["type"] == "error":
                    raise ValueError(message["problem"]["code"])
                if message["seq"] is not None:
                    yield message["seq"], message["type"]
