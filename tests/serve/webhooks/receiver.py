"""A subscriber's server: real HTTP on loopback, and somebody else's verification of signatures."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from standardwebhooks import Webhook as Verifier
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send


@dataclass
class Receiver:
    """Answers each request with the next of ``answers``, the last one for ever.

    An answer is a status, or an event to wait for first: a server that hangs.
    """

    address: str = ""
    answers: list[int | asyncio.Event] = field(default_factory=lambda: [204])
    retry_after: str | None = None
    """What failures say besides."""
    heard: list[dict[str, str]] = field(default_factory=list)
    """The headers of each request, and its body under ``body``."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        self.heard.append({**request.headers, "body": (await request.body()).decode()})
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, asyncio.Event):
            await answer.wait()
            answer = 204
        headers = {"Location": f"{self.address}/elsewhere"} if 300 <= answer < 400 else {}
        if self.retry_after is not None and answer >= 400:
            headers["Retry-After"] = self.retry_after
        await Response("x" * 100_000, answer, headers)(scope, receive, send)

    @property
    def ids(self) -> list[str]:
        return [request["webhook-id"] for request in self.heard]

    async def hears(self, count: int, seconds: float = 20) -> None:
        """Wait until so many requests have come."""
        async with asyncio.timeout(seconds):
            while len(self.heard) < count:
                await asyncio.sleep(0.01)

    def verified(self, secret: str, index: int = -1) -> dict[str, Any]:
        """The payload of one request; raises where its signature is not by ``secret``."""
        request = self.heard[index]
        payload: dict[str, Any] = Verifier(secret).verify(request["body"], request)
        return payload


@asynccontextmanager
async def receiving(
    receiver: Receiver, certificate: tuple[Path, Path] | None = None
) -> AsyncIterator[Receiver]:
    """Serve it on a loopback port; ``certificate`` is that of https, and its key."""
    listener = socket.create_server(("127.0.0.1", 0))
    cert, key = certificate or (None, None)
    server = uvicorn.Server(
        uvicorn.Config(
            receiver,
            lifespan="off",
            log_config=None,
            timeout_graceful_shutdown=1,
            ssl_certfile=cert,
            ssl_keyfile=key,
        )
    )
    running = asyncio.create_task(server.serve(sockets=[listener]))
    scheme = "https" if certificate else "http"
    receiver.address = f"{scheme}://127.0.0.1:{listener.getsockname()[1]}"
    try:
        yield receiver
    finally:
        server.should_exit = True
        await running
        listener.close()
