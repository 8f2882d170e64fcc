"""A TCP proxy whose connections can be slowed, stalled, cut and robbed of an answer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path

from loadtests.chaos.postgres_wire import FrontendMessages

Upstream = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]

_CHUNK = 64 * 1024


def unix_socket(path: Path) -> Upstream:
    return lambda: asyncio.open_unix_connection(str(path))


def tcp_port(port: int) -> Upstream:
    return lambda: asyncio.open_connection("127.0.0.1", port)


class FaultProxy:
    """Stands before one server on a TCP port of its own; the faults are plain attributes."""

    def __init__(self, upstream: Upstream, *, postgres: bool = False) -> None:
        """``postgres`` reads the clients' side of the protocol, for ``drop_commits``."""
        self.upstream = upstream
        """Where new connections go."""
        self._postgres = postgres
        self._links: set[_Link] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._server: asyncio.Server | None = None
        self.delay_s = 0.0
        """Added to every chunk, each way."""
        self.new_end_after: int | None = None
        """Every new connection is cut after so many bytes to its client."""
        self.drop_commits = 0
        """How many COMMITs still reach the server while their answers do not come back."""
        self.commits_dropped = 0

    async def start(self) -> int:
        """Listen on a free port of loopback; the port."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        self.resume()
        self.reset()

    def stall(self) -> None:
        """Pass nothing on, and close nothing, until ``resume``."""
        self._flowing.clear()

    def resume(self) -> None:
        self._flowing.set()

    def reset(self) -> int:
        """Cut every connection at once; how many there were."""
        links = list(self._links)
        for link in links:
            link.cut()
        return len(links)

    def freeze(self) -> int:
        """Pass nothing more on over any open connection; new ones work. How many there were."""
        for link in self._links:
            link.flowing.clear()
        return len(self._links)

    def cut_after(self, count: int) -> int:
        """Cut every open connection once ``count`` more bytes have gone to its client."""
        for link in self._links:
            link.bytes_left = count
        return len(self._links)

    async def flow(self) -> None:
        """Wait out the faults that hold a chunk back."""
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        await self._flowing.wait()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            server_reader, server_writer = await self.upstream()
        except OSError:  # the server is down: so is the proxy
            writer.transport.abort()
            return
        link = _Link(self, writer, server_writer, FrontendMessages() if self._postgres else None)
        link.bytes_left = self.new_end_after
        self._links.add(link)
        ways = [
            asyncio.create_task(link.to_server(reader)),
            asyncio.create_task(link.to_client(server_reader)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._links.discard(link)
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            link.close()


class _Link:
    """One connection, both ways."""

    def __init__(
        self,
        proxy: FaultProxy,
        client: asyncio.StreamWriter,
        server: asyncio.StreamWriter,
        messages: FrontendMessages | None,
    ) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        self._messages = messages
        self._robbed = False
        self.bytes_left: int | None = None
        self.flowing = asyncio.Event()
        self.flowing.set()

    async def to_server(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(OSError):
            while chunk := await reader.read(_CHUNK):
                await self._flow()
                if self._messages is not None and self._messages.commits(chunk):
                    self._rob()
                self._server.write(chunk)
                await self._server.drain()

    async def to_client(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(OSError):
            while chunk := await reader.read(_CHUNK):
                if self._robbed:  # the server has answered: the transaction is committed
                    self._proxy.commits_dropped += 1
                    self.cut()
                    return
                await self._flow()
                if self.bytes_left is not None and len(chunk) >= self.bytes_left:
                    self._client.write(chunk[: self.bytes_left])
                    await self._client.drain()
                    return
                if self.bytes_left is not None:
                    self.bytes_left -= len(chunk)
                self._client.write(chunk)
                await self._client.drain()

    async def _flow(self) -> None:
        await self._proxy.flow()
        await self.flowing.wait()

    def _rob(self) -> None:
        if self._proxy.drop_commits > 0:
            self._proxy.drop_commits -= 1
            self._robbed = True

    def cut(self) -> None:
        """Reset both sides, as a dead host would."""
        self.flowing.set()
        self._client.transport.abort()
        self._server.transport.abort()

    def close(self) -> None:
        self._client.close()
        self._server.close()
