"""An OTLP endpoint on loopback: what it was sent, as the protocol's own messages say."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Status


@dataclass(frozen=True, slots=True)
class Collected:
    """A span; ``began`` and ``ended`` are Unix times in ns, ``resource`` is of its process."""

    name: str
    trace_id: str
    id: str
    parent_id: str
    began: int
    ended: int
    failed: bool
    tracestate: str
    attributes: dict[str, Any]
    resource: dict[str, Any]


class Collector:
    """Keeps every span that comes to ``address``, in the order of their coming."""

    def __init__(self) -> None:
        self.spans: list[Collected] = []
        self.heard: list[dict[str, str]] = []
        """The headers of what came elsewhere: it serves as a webhook's receiver, too."""
        self.address = ""

    def take(self, body: bytes) -> None:
        request = ExportTraceServiceRequest.FromString(body)
        for part in request.resource_spans:
            resource = _values(part.resource.attributes)
            for scope in part.scope_spans:
                self.spans += [
                    Collected(
                        name=span.name,
                        trace_id=span.trace_id.hex(),
                        id=span.span_id.hex(),
                        parent_id=span.parent_span_id.hex(),
                        began=span.start_time_unix_nano,
                        ended=span.end_time_unix_nano,
                        failed=span.status.code == Status.STATUS_CODE_ERROR,
                        tracestate=span.trace_state,
                        attributes=_values(span.attributes),
                        resource=resource,
                    )
                    for span in scope.spans
                ]

    def of(self, trace_id: str, name: str | None = None) -> list[Collected]:
        """The spans of a trace, of that name if one is given, the earliest first."""
        found = [each for each in list(self.spans) if each.trace_id == trace_id]
        return sorted(
            (each for each in found if name in (None, each.name)), key=lambda each: each.began
        )

    def wait_for(self, condition: Callable[[], bool], seconds: float = 20) -> None:
        """Until it is so.

        Raises:
            TimeoutError: it was not so in time; the message is what has come.
        """
        until = time.monotonic() + seconds
        while not condition():
            if time.monotonic() >= until:
                raise TimeoutError("\n".join(map(str, self.spans)))
            time.sleep(0.02)


def _values(attributes: Any) -> dict[str, Any]:
    def value(attribute: KeyValue) -> Any:
        return getattr(attribute.value, str(attribute.value.WhichOneof("value")))

    return {attribute.key: value(attribute) for attribute in attributes}


@contextmanager
def collecting() -> Iterator[Collector]:
    collector = Collector()

    class Endpoint(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            if self.path == "/v1/traces":
                collector.take(body)
            else:
                collector.heard.append({name.lower(): text for name, text in self.headers.items()})
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            """Not to stderr."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    collector.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
