"""The AsyncAPI document: every message that goes by WebSocket, Server-Sent Events or webhook."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib.metadata import version
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from serve.api.examples import example, merged
from serve.events.event import EventType
from serve.events.schemas import JOB_EVENTS, Authenticated, ClientMessage, ErrorOut
from serve.webhooks.schemas import WEBHOOK_EVENTS, WebhookHeaders

Json = dict[str, Any]

_HERE = {"host": "127.0.0.1:8000", "description": "Where `make run` serves."}
_ABOUT = """
What happens to jobs, as it happens. Stored events are numbered 1..n for each job, and each is sent
once, in order. A client that names the last number it saw gets the rest. Progress has no number and
is never repeated. The HTTP operations are described by OpenAPI at `/openapi.json`.
""".strip()
_SOCKET = """
Many jobs on one connection; every message is one JSON object in a text frame. The key comes in a
header, in the first message, or as a ticket of `POST /v1/events/tickets`. A client acknowledges
by `ack` what it has read: at most 128 KiB are sent without an acknowledgement, where each message
counts 512 bytes more than its length.

Close codes: 1003 not JSON text, 1009 too long, 1012 the server restarts, 1013 too much is not
acknowledged, 4401 no valid key or ticket.
""".strip()
_STREAM = """
One job, from its first event, or from after the number that `after` or `Last-Event-ID` names, to
its end. `event` is the type, `id` the number, `data` the message below.
""".strip()
_WEBHOOK = """
POSTed to the URL that `POST /v1/webhooks` was given, as the Standard Webhooks specification has it,
until a 2xx answers, with growing delays. Each comes at least once, under the same `webhook-id`.
""".strip()


def _client_messages() -> dict[str, type[BaseModel]]:
    union = get_args(ClientMessage)[0]
    return {get_args(model.model_fields["type"].annotation)[0]: model for model in get_args(union)}


_FROM_CLIENTS = _client_messages()
_REPLIES: dict[str, type[BaseModel]] = {"authenticated": Authenticated, "error": ErrorOut}
_JOB_EVENTS = {type_.value: model for type_, model in JOB_EVENTS.items()}
_WEBHOOKS = {f"webhook.{type_.value}": model for type_, model in WEBHOOK_EVENTS.items()}
_EVERY = {**_FROM_CLIENTS, **_REPLIES, **_JOB_EVENTS, **_WEBHOOKS}
_WEBHOOK_HEADERS = {
    "webhook-id": "msg_019ab2f4-75d0-7e19-a3c8-6b1f2d904ae7",
    "webhook-timestamp": "1795499103",
    "webhook-signature": "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=",
}
_PREVIEW = "data:image/webp;base64,UklGRiIAAABXRUJQVlA4IBYAAAAwAQCdASoBAAEADsD+JaQAA3AAAAAA"
_PICTURE = {"image_id": "019ab2f4-6c1f-7b44-8e21-90d4a6f2c713", "index": 0}
_DATA: dict[str, Json] = {
    EventType.QUEUED: {"n": 1, "model": "sfumato-embedded", "prompt": "a red heart"},
    EventType.PROGRESS: {
        **_PICTURE,
        "step": 8,
        "steps": 20,
        "preview": _PREVIEW,
    },
    EventType.IMAGE_SUCCEEDED: {
        **_PICTURE,
        "variants": ["original", "thumbnail"],
        "blurhash": "L6Pj0^jE.AyE_3t7t7R**0o#DgR4",
        "drawing_s": 0.512,
        "storing_s": 0.019,
    },
    EventType.FAILED: {**_PICTURE, "error": "The storage is full."},
    EventType.EXPIRED: {"error": "The deadline passed before every picture was drawn."},
}
"""Examples of what events say."""


@cache
def asyncapi() -> Json:
    """The document, of AsyncAPI 3.1."""
    return {
        "asyncapi": "3.1.0",
        "info": {
            "title": "Sfumato events",
            "version": version("sfumato"),
            "description": _ABOUT,
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "websocket": {
                **_HERE,
                "protocol": "ws",
                "security": _secured("bearer", "key", "ticket"),
            },
            "http": {**_HERE, "protocol": "http", "security": _secured("bearer", "key")},
            "receiver": {
                "host": "example.com",
                "protocol": "https",
                "description": "The subscriber's own, as its webhook's URL names it.",
            },
        },
        "channels": _channels(),
        "operations": {
            "receiveClientMessages": _operation(
                "receive", "events", "What a client says", _FROM_CLIENTS
            ),
            "sendEvents": _operation(
                "send", "events", "What the server sends", [*_REPLIES, *_JOB_EVENTS]
            ),
            "streamJobEvents": _operation("send", "jobEvents", "One job's events", _JOB_EVENTS),
            "deliverEvents": _operation("send", "webhooks", "Events by webhook", _WEBHOOKS),
        },
        "components": {
            "messages": {name: _message(name) for name in _EVERY},
            "schemas": _schemas(),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "`sfm_…`"},
                "key": {
                    "type": "httpApiKey",
                    "name": "X-API-Key",
                    "in": "header",
                    "description": "`sfm_…`",
                },
                "ticket": {
                    "type": "httpApiKey",
                    "name": "ticket",
                    "in": "query",
                    "description": "Of `POST /v1/events/tickets`; opens one WebSocket, once.",
                },
            },
        },
    }


def _channels() -> Json:
    return {
        "events": {
            "address": "/v1/events",
            "title": "Many jobs",
            "description": _SOCKET,
            "servers": [{"$ref": "#/servers/websocket"}],
            "messages": _references([*_FROM_CLIENTS, *_REPLIES, *_JOB_EVENTS]),
            "bindings": {"ws": {"method": "GET"}},
        },
        "jobEvents": {
            "address": "/v1/jobs/{job_id}/events",
            "title": "One job",
            "description": _STREAM,
            "servers": [{"$ref": "#/servers/http"}],
            "parameters": {
                "job_id": {
                    "description": "The job's id.",
                    "examples": [_example("watch")["job_id"]],
                }
            },
            "messages": _references(_JOB_EVENTS),
        },
        "webhooks": {
            "address": None,  # the subscriber's
            "title": "Webhooks",
            "description": _WEBHOOK,
            "servers": [{"$ref": "#/servers/receiver"}],
            "messages": _references(_WEBHOOKS),
        },
    }


def _secured(*ways: str) -> list[Json]:
    return [{"$ref": f"#/components/securitySchemes/{way}"} for way in ways]


def _references(names: Iterable[str]) -> Json:
    return {name: {"$ref": f"#/components/messages/{name}"} for name in names}


def _operation(action: str, channel: str, title: str, names: Iterable[str]) -> Json:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "title": title,
        "messages": [{"$ref": f"#/channels/{channel}/messages/{name}"} for name in names],
    }


def _message(name: str) -> Json:
    model = _EVERY[name]
    message = {
        "name": name,
        "title": name,
        "summary": (model.__doc__ or "").strip(),
        "contentType": "application/json",
        "payload": {"$ref": f"#/components/schemas/{model.__name__}"},
    }
    message_example: Json = {"payload": _example(name)}
    if name in _WEBHOOKS:
        message["headers"] = {"$ref": "#/components/schemas/WebhookHeaders"}
        message_example["headers"] = _WEBHOOK_HEADERS
    return {**message, "examples": [message_example]}


def _example(name: str) -> Json:
    schemas = _schemas()
    event = example(schemas[_EVERY[name].__name__], schemas)
    data = _DATA.get(name.removeprefix("webhook."))
    made: Json = merged(event, {"data": data}) if data else event
    return made


def life_of_a_job() -> list[Json]:
    """The events of a job of one picture."""
    types = (
        EventType.QUEUED,
        EventType.RUNNING,
        EventType.IMAGE_SUCCEEDED,
        EventType.SUCCEEDED,
    )
    return [{**_example(type_), "seq": seq} for seq, type_ in enumerate(types, 1)]


@cache
def _schemas() -> Json:
    models = [(model, "serialization") for model in (*_EVERY.values(), WebhookHeaders)]
    _, schema = models_json_schema(models, ref_template="#/components/schemas/{model}")  # type: ignore[arg-type]
    found: Json = schema["$defs"]
    return found
