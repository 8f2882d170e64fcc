"""An answer as it came over the wire."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass

from tests.serve.api.refusals.case import Case, Endless

ANSWER_WITHIN_S = 10.0


@dataclass(slots=True)
class Sent:
    """How much of a body has left."""

    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes
    sent: int
    """Bytes of an endless body that had left before the answer was read."""


async def ask(host: str, port: int, case: Case, names: Mapping[str, str]) -> Answer:
    """Send the case byte for byte, and read the answer even while sending."""
    reader, writer = await asyncio.open_connection(host, port)
    body = b"" if case.body is None else _body(case.body)
    sent = Sent()
    writer.write(_head(case, names, f"{host}:{port}", body))
    sending = asyncio.create_task(_send(writer, body, sent))
    try:
        async with asyncio.timeout(ANSWER_WITHIN_S):
            head = await reader.readuntil(b"\r\n\r\n")
            first, *lines = head.decode("latin-1").split("\r\n")
            headers = {
                name.lower(): value.strip()
                for name, _, value in (line.partition(":") for line in lines if line)
            }
            content = await reader.readexactly(int(headers["content-length"]))
        return Answer(int(first.split()[1]), headers, content, sent.bytes)
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        writer.close()


def filled(text: str, names: Mapping[str, str]) -> str:
    for name, value in names.items():
        text = text.replace(f"{{{name}}}", value)
    return text


def _body(body: object) -> bytes | Endless:
    if isinstance(body, bytes | Endless):
        return body
    return json.dumps(body).encode()


def _head(case: Case, names: Mapping[str, str], host: str, body: bytes | Endless) -> bytes:
    given = [*(case.headers.items() if isinstance(case.headers, Mapping) else case.headers)]
    told = {name.lower() for name, _ in given}
    headers = [("Host", host)] if "host" not in told else []
    if case.key is not None and "authorization" not in told:
        headers.append(("Authorization", f"Bearer {case.key}"))
    if case.body is not None and "content-type" not in told:
        headers.append(("Content-Type", "application/json"))
    if isinstance(body, Endless):
        headers.append(("Transfer-Encoding", "chunked"))
    elif case.body is not None and not told & {"content-length", "transfer-encoding"}:
        headers.append(("Content-Length", str(len(body))))
    headers += [pair for pair in given if pair != ("Content-Type", "")]
    lines = [f"{case.method} {filled(case.path, names)} HTTP/1.1"]
    lines += [f"{name}: {filled(value, names)}" for name, value in headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def _send(writer: asyncio.StreamWriter, body: bytes | Endless, sent: Sent) -> None:
    if isinstance(body, bytes):
        writer.write(body)
        return
    framed = b"%x\r\n%s\r\n" % (len(body.chunk), body.chunk)
    while sent.bytes < body.total:
        writer.write(framed)
        await writer.drain()
        sent.bytes += len(body.chunk)
        await asyncio.sleep(0)
    writer.write(b"0\r\n\r\n")
