"""One event of each type, and a job's life as the stream tells it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson

from serve.events.event import EventType

_JOB_ID = "019ab2f4-6c1e-7d30-9a52-3f8e1c7b4d60"
_IMAGE_ID = "019ab2f4-6c1f-7b44-8e21-90d4a6f2c713"


def _event(type_: EventType, seq: int | None, second: str, **data: Any) -> dict[str, Any]:
    return {
        "type": type_.value,
        "job_id": _JOB_ID,
        "seq": seq,
        "created_at": f"2026-11-24T05:45:{second}Z",
        "data": data,
    }


EVENTS = {
    EventType.QUEUED: _event(
        EventType.QUEUED, 1, "00.123456", n=1, model="sfumato-embedded", prompt="a red heart"
    ),
    EventType.RUNNING: _event(EventType.RUNNING, 2, "00.301882"),
    EventType.PROGRESS: _event(
        EventType.PROGRESS,
        None,
        "01.207410",
        image_id=_IMAGE_ID,
        index=0,
        step=8,
        steps=20,
        preview="data:image/webp;base64,UklGRiIAAABXRUJQVlA4IBYAAAAwAQCdASoBAAEADsD+JaQAA3AAAAAA",
    ),
    EventType.IMAGE_SUCCEEDED: _event(
        EventType.IMAGE_SUCCEEDED,
        3,
        "02.480113",
        image_id=_IMAGE_ID,
        index=0,
        variants=["original", "thumbnail"],
        drawing_s=0.512,
        storing_s=0.019,
    ),
    EventType.SUCCEEDED: _event(EventType.SUCCEEDED, 4, "02.480113"),
    EventType.FAILED: _event(
        EventType.FAILED,
        3,
        "02.480113",
        error="The storage is full.",
        image_id=_IMAGE_ID,
        index=0,
    ),
    EventType.CANCELLED: _event(EventType.CANCELLED, 2, "01.004510"),
    EventType.EXPIRED: _event(
        EventType.EXPIRED,
        2,
        "59.871203",
        error="The deadline passed before every picture was drawn.",
    ),
}


def life_of_a_job() -> list[dict[str, Any]]:
    """The events of a job of one picture."""
    return [
        EVENTS[EventType.QUEUED],
        EVENTS[EventType.RUNNING],
        EVENTS[EventType.IMAGE_SUCCEEDED],
        EVENTS[EventType.SUCCEEDED],
    ]


def as_stream(events: Iterable[dict[str, Any]]) -> str:
    """The events as Server-Sent Events."""
    return "".join(
        f"event: {event['type']}\ndata: {orjson.dumps(event).decode()}\n"
        + (f"id: {event['seq']}\n\n" if "seq" in event else "\n")
        for event in events
    )


def as_webhook(event: dict[str, Any]) -> dict[str, Any]:
    """The body that a webhook is sent of the event."""
    place = {"job_id": event["job_id"], "seq": event["seq"]}
    return {
        "type": event["type"],
        "timestamp": event["created_at"],
        "data": {**event["data"], **place},
    }


WEBHOOK_HEADERS = {
    "webhook-id": "msg_019ab2f4-75d0-7e19-a3c8-6b1f2d904ae7",
    "webhook-timestamp": "1795499103",
    "webhook-signature": "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=",
}
CLIENT_MESSAGES: dict[str, dict[str, Any]] = {
    "authenticate": {"type": "authenticate", "key": "sfm_…"},
    "watch": {"type": "watch", "job_id": _JOB_ID, "after": 3},
    "unwatch": {"type": "unwatch", "job_id": _JOB_ID},
    "watch_all": {"type": "watch_all"},
    "ack": {"type": "ack", "messages": 48},
}
SERVER_MESSAGES: dict[str, dict[str, Any]] = {
    "authenticated": {"type": "authenticated"},
    "error": {
        "type": "error",
        "problem": {
            "type": "about:blank",
            "title": "No such job",
            "status": 404,
            "detail": f"There is no job {_JOB_ID}.",
            "code": "job_not_found",
        },
        "job_id": _JOB_ID,
    },
}
