"""The AsyncAPI document is one, and events are what it says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx2
import pytest
from jsonschema import Draft7Validator
from pydantic import BaseModel

from serve.api.asyncapi import asyncapi
from serve.api.services import Services
from serve.events.event import EventType
from serve.events.schemas import JOB_EVENTS
from serve.webhooks.schemas import WEBHOOK_EVENTS
from serve.worker.reaper import Reaper
from tests.serve.api.described import Json, faults
from tests.serve.api.drawing import Desk

SPECIFICATION = Path(__file__).parents[2] / "data" / "asyncapi" / "3.1.0.json"
PROMPT = {"prompt": "a red heart"}


@pytest.fixture(scope="module")
def document() -> Json:
    told: Json = json.loads(json.dumps(asyncapi()))
    return told


async def test_is_served_to_anyone(anonymous: httpx2.AsyncClient, document: Json) -> None:
    assert (await anonymous.get("/asyncapi.json")).json() == document


def test_is_of_asyncapi_3_1(document: Json) -> None:
    specification = Draft7Validator(json.loads(SPECIFICATION.read_text()))
    faults = [
        f"{fault.json_path}: {fault.message}" for fault in specification.iter_errors(document)
    ]
    assert faults == []
    broken = {**document, "channels": {"events": {"address": 7}}}
    assert not specification.is_valid(broken)


def test_every_reference_leads_somewhere(document: Json) -> None:
    for reference in _references(document):
        place: Any = document
        for step in reference.removeprefix("#/").split("/"):
            place = place[step]


def test_every_event_is_told_on_every_way_it_takes(document: Json) -> None:
    channels = {name: set(told["messages"]) for name, told in document["channels"].items()}
    assert channels["jobEvents"] == {event.value for event in EventType}
    assert channels["jobEvents"] < channels["events"]
    durable = {event for event in EventType if event is not EventType.PROGRESS}
    assert channels["webhooks"] == {f"webhook.{event}" for event in durable}


def test_every_message_has_a_summary_and_an_example_true_to_its_schema(document: Json) -> None:
    for name, message in document["components"]["messages"].items():
        assert message["summary"], name
        assert message["examples"], name
        for example in message["examples"]:
            assert faults(document, message["payload"], example["payload"]) == [], name
            if "headers" in message:
                assert faults(document, message["headers"], example["headers"]) == [], name


async def test_events_say_what_is_described_and_nothing_else(
    client: httpx2.AsyncClient, services: Services
) -> None:
    desk = Desk(services)
    jobs = []
    for end in ("succeeded", "failed", "expired", "cancelled"):
        wanted = PROMPT if end != "expired" else {**PROMPT, "deadline_s": 0.001}
        jobs.append((await client.post("/v1/jobs", json=wanted)).json()["id"])
        if end == "cancelled":
            await client.delete(f"/v1/jobs/{jobs[-1]}")
        elif end == "expired":
            await Reaper(services.database, services.bus, services.settings).reap()
        else:
            [claim] = await desk.claim()
            await (desk.finish(claim) if end == "succeeded" else desk.claims.fail(claim, "Why."))

    events = [event for job in jobs for event in await _events(client, job)]

    assert {event["type"] for event in events} == set(EventType) - {EventType.PROGRESS}
    for event in events:
        type_ = EventType(event["type"])
        assert _told(JOB_EVENTS[type_], event) == event


def test_webhooks_are_described_like_their_events() -> None:
    for type_, webhook in WEBHOOK_EVENTS.items():
        data = webhook.model_fields["data"].annotation
        event = JOB_EVENTS[type_].model_fields["data"].annotation
        assert issubclass(data, event)  # type: ignore[arg-type]
        assert set(data.model_fields) - set(event.model_fields) == {"job_id", "seq"}  # type: ignore[union-attr]


async def _events(client: httpx2.AsyncClient, job_id: str) -> list[Json]:
    lines = (await client.get(f"/v1/jobs/{job_id}/events")).text.splitlines()
    return [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]


def _told(model: type[BaseModel], event: Json) -> Json:
    """The event by way of its model, which drops what it does not know."""
    told: Json = model.model_validate_json(json.dumps(event)).model_dump(
        mode="json", exclude_unset=True
    )
    return told


def _references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [found for inner in value.values() for found in _references(inner)]
    if isinstance(value, list):
        return [found for inner in value for found in _references(inner)]
    return []
