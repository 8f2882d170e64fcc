"""As much of the S3 protocol as pictures need, in memory, over real HTTP."""

from __future__ import annotations

import hashlib
import re
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape


@dataclass
class Fault:
    """An answer instead of the right one, to the next ``times`` requests."""

    status: int = 500
    code: str = "InternalError"
    hang_s: float = 0
    times: int = 1_000_000


@dataclass
class S3:
    """The server's objects, by `bucket/key`, and how to reach it."""

    port: int = 0
    objects: dict[str, tuple[bytes, str]] = field(default_factory=dict)
    modified: dict[str, datetime] = field(default_factory=dict)
    """Of objects that were not written just now, by `bucket/key`."""
    page: int = 1000
    fault: Fault | None = None
    requests: int = 0

    def clear(self) -> None:
        self.objects.clear()
        self.modified.clear()
        self.page, self.fault, self.requests = 1000, None, 0

    def modified_at(self, name: str) -> datetime:
        return self.modified.get(name, datetime.now(UTC))

    @property
    def environment(self) -> dict[str, str]:
        """What a deployment would set."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "eu-central-1",
        }


class Server(ThreadingHTTPServer):
    """Knows its state, for the handlers."""

    def __init__(self, state: S3) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.state = state


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: Server
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass

    @property
    def key(self) -> str:
        return unquote(urlsplit(self.path).path).strip("/")

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def answer(
        self,
        status: int,
        body: bytes = b"",
        *,
        kind: str = "text/xml",
        content_range: str | None = None,
        tagged: bytes | None = None,
    ) -> None:
        """``tagged`` is what the ETag belongs to, where the body is a part of it."""
        self.send_response(status)
        if content_range:
            self.send_header("Content-Range", content_range)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", kind)
        whole = body if tagged is None else tagged
        self.send_header("ETag", f'"{hashlib.sha256(whole).hexdigest()[:32]}"')
        self.send_header(
            "Last-Modified", format_datetime(self.server.state.modified_at(self.key), usegmt=True)
        )
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def parse_request(self) -> bool:
        """Every request passes here; a fault answers it before its method does."""
        if not super().parse_request():
            return False
        state = self.server.state
        state.requests += 1
        fault = state.fault
        if fault is None or not fault.times:
            return True
        fault.times -= 1
        self.body()
        time.sleep(fault.hang_s)
        if self.command == "HEAD":
            self.answer(fault.status)
        else:
            self.answer(fault.status, f"<Error><Code>{fault.code}</Code></Error>".encode())
        return False

    def do_PUT(self) -> None:
        body = self.body()
        if self.key.startswith("forbidden/"):
            self.answer(403, b"<Error><Code>AccessDenied</Code></Error>")
        elif self.headers.get("If-None-Match") == "*" and self.key in self.server.state.objects:
            self.answer(412, b"<Error><Code>PreconditionFailed</Code></Error>")
        else:
            self.server.state.objects[self.key] = (body, self.headers["Content-Type"])
            self.answer(200)

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        if "list-type" in query:
            after = query.get("continuation-token", query.get("start-after", [""]))[0]
            self.answer(200, self.listing(query.get("prefix", [""])[0], after).encode())
        elif self.key in self.server.state.objects:
            body, kind = self.server.state.objects[self.key]
            self.answer_object(body, kind)
        else:
            self.answer(404, b"<Error><Code>NoSuchKey</Code></Error>")

    def answer_object(self, body: bytes, kind: str) -> None:
        """Whole, or the one range that the client of a store asks for."""
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if asked is None:
            self.answer(200, body, kind=kind)
            return
        start, stop = int(asked[1]), min(int(asked[2]) + 1, len(body))
        told = f"bytes {start}-{stop - 1}/{len(body)}"
        self.answer(206, body[start:stop], kind=kind, content_range=told, tagged=body)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        bucket = self.key
        wanted = [
            element.text or ""
            for element in ET.fromstring(self.body()).iter()  # noqa: S314 our own client's
            if element.tag.rpartition("}")[2] == "Key"
        ]
        for key in wanted:
            self.server.state.objects.pop(f"{bucket}/{key}", None)
        deleted = "".join(f"<Deleted><Key>{escape(key)}</Key></Deleted>" for key in wanted)
        self.answer(200, f"<DeleteResult>{deleted}</DeleteResult>".encode())

    def do_DELETE(self) -> None:
        self.server.state.objects.pop(self.key, None)
        self.answer(204)

    def listing(self, prefix: str, after: str) -> str:
        """One page of keys beyond ``after``, in order."""
        state = self.server.state
        keys = sorted(
            key
            for name in list(state.objects)
            if (key := name.removeprefix(f"{self.key}/")) != name
            and key.startswith(prefix)
            and key > after
        )
        page = keys[: state.page]
        contents = "".join(
            f"<Contents><Key>{escape(key)}</Key>"
            f"<Size>{len(state.objects[f'{self.key}/{key}'][0])}</Size>"
            f"<LastModified>{state.modified_at(f'{self.key}/{key}').isoformat()}</LastModified>"
            '<ETag>"e"</ETag></Contents>'
            for key in page
        )
        more = (
            f"<IsTruncated>true</IsTruncated><NextContinuationToken>{escape(page[-1])}"
            "</NextContinuationToken>"
            if len(keys) > len(page)
            else "<IsTruncated>false</IsTruncated>"
        )
        return f"<ListBucketResult>{contents}{more}</ListBucketResult>"


@contextmanager
def serve_s3() -> Iterator[S3]:
    """Serves in a thread until the block ends. The bucket `forbidden` refuses everything."""
    state = S3()
    server = Server(state)
    state.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
