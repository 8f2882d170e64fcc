"""Jobs that draw from a picture: accepted at once, as `POST /v1/jobs` are."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest

from serve.api.services import Services
from tests.serve.api.drawing import Desk
from tests.serve.api.refusals.uploads import file_of, mask_of, picture

GOOD = file_of(picture())
PROMPT = {"prompt": "a red heart"}


async def ask(client: httpx2.AsyncClient, mask: bytes | None = None, **fields: Any) -> Any:
    files = {"image": GOOD} | ({} if mask is None else {"mask": mask})
    return await client.post("/v1/edits", data=PROMPT | fields, files=files)


@pytest.mark.parametrize(
    ("fields", "size", "strength"),
    [
        ({}, (64, 48), 0.8),
        ({"strength": "0.35", "size": "auto"}, (64, 48), 0.35),
        ({"width": "64", "height": "96"}, (64, 96), 0.8),
        ({"size": "96x64", "mask": True}, (96, 64), 1.0),
    ],
)
async def test_it_is_accepted_and_drawn_from_the_picture(
    client: httpx2.AsyncClient,
    services: Services,
    fields: dict[str, Any],
    size: tuple[int, int],
    strength: float,
) -> None:
    mask = file_of(mask_of()) if fields.pop("mask", False) else None
    loras = json.dumps([{"name": "ink", "scale": 0.5}])
    answer = await ask(client, mask, n="2", seed="9007199254740993", loras=loras, **fields)
    assert answer.status_code == 202, answer.text
    job = answer.json()
    assert answer.headers["location"] == f"/v1/jobs/{job['id']}"
    assert (job["state"], len(job["images"])) == ("queued", 2)

    claims = await Desk(services).claim()
    request = claims[0].request
    assert (request.width, request.height) == size
    assert (request.strength, request.seed) == (strength, 9007199254740993)
    assert request.image is not None
    assert (request.mask is not None) == (mask is not None)
    assert [each.name for each in request.loras] == ["ink"]


async def test_the_same_key_and_picture_is_the_same_job(client: httpx2.AsyncClient) -> None:
    headers = {"Idempotency-Key": "order-1042"}
    asked = [("a.png", GOOD), ("b.png", GOOD), ("c.png", file_of(picture(48, 64)))]
    answers = [
        await client.post("/v1/edits", data=PROMPT, files={"image": each}, headers=headers)
        for each in asked
    ]
    assert [answer.status_code for answer in answers] == [202, 202, 422]
    assert answers[0].json()["id"] == answers[1].json()["id"]
    assert answers[2].json()["code"] == "idempotency_conflict"


async def test_what_is_wrong_is_named(client: httpx2.AsyncClient) -> None:
    for sent, status, code, param in (
        ({"data": PROMPT, "files": {"mask": GOOD}}, 422, "missing_field", "image"),
        ({"data": PROMPT, "files": {"image": b"no picture"}}, 422, "unsupported_image", "image"),
        (
            {"data": PROMPT, "files": {"image": GOOD, "mask": file_of(mask_of(32, 32))}},
            422,
            "invalid_mask",
            "mask",
        ),
        (
            {"data": PROMPT | {"strength": "0"}, "files": {"image": GOOD}},
            422,
            "invalid_value",
            "strength",
        ),
        ({"json": PROMPT}, 400, "invalid_form", None),
    ):
        answer = await client.post("/v1/edits", **sent)
        told = answer.json()
        assert (answer.status_code, told["code"], told.get("param")) == (status, code, param), told
