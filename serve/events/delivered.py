"""The span of a client that has got the last event of its job."""

from __future__ import annotations

from serve.events.event import Event
from serve.observability import tracing
from serve.observability.tracing import TraceContext


def record_delivery(event: Event, transport: str, began: float) -> None:
    """The event is sent; ``began`` is when it was taken for that, by `time.monotonic`.

    Nothing is recorded of an event that is not a job's last.
    """
    if event.type.terminal and event.traceparent is not None:
        span = tracing.begin(
            "deliver",
            TraceContext(event.traceparent),
            began,
            attributes={
                "sfumato.job.id": str(event.job_id),
                "sfumato.event": event.type.value,
                "sfumato.transport": transport,
            },
        )
        span.end()
