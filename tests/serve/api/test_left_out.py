"""An optional field that is sent empty is the same as one that is not sent, wherever it is sent."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from websockets.asyncio.client import connect

from serve.access.schemas import KeyBody, LimitsBody, TenantBody
from serve.api.services import Services
from serve.http.fields import StrictBody
from serve.jobs.schemas import ControlBody, JobBody, LoraBody
from serve.openai.schemas import EditBody, EditJson, GenerationBody, VariationBody
from serve.webhooks.schemas import WebhookBody
from tests.serve.api.described import described
from tests.serve.api.refusals.uploads import browser_form, file_of, mask_of, picture
from tests.serve.api.test_events import address, say, told
from tests.serve.api.test_uploads import edited

__all__ = ["address"]

PROMPT: dict[str, Any] = {"prompt": "a red heart"}
ID = "019ab2f4-6c1f-7b44-8e21-90d4a6f2c713"
REQUIRED: list[tuple[type[StrictBody], dict[str, Any]]] = [
    (GenerationBody, PROMPT),
    (JobBody, {}),
    (EditBody, PROMPT),
    (EditJson, {**PROMPT, "images": [{"image_url": "data:"}]}),
    (VariationBody, {}),
    (LoraBody, {"name": "ink"}),
    (ControlBody, {"name": "edges"}),
    (KeyBody, {"name": "laptop"}),
    (TenantBody, {"name": "studio"}),
    (LimitsBody, {}),
    (WebhookBody, {"url": "https://example.com/hook"}),
]


@pytest.mark.parametrize(
    ("body", "required"), REQUIRED, ids=lambda each: getattr(each, "__name__", "")
)
def test_every_optional_field_of_a_body(body: type[StrictBody], required: dict[str, Any]) -> None:
    without = body.model_validate(required)
    optional = [name for name, field in body.model_fields.items() if not field.is_required()]
    assert set(body.model_fields) - set(optional) == required.keys()
    for name in optional:
        assert body.model_validate({**required, name: ""}) == without, name
        assert body.model_validate({**required, name: None}) == without, name
        assert name not in body.model_validate({**required, name: ""}).model_fields_set


def test_null_takes_a_limit_off_and_an_empty_text_leaves_it() -> None:
    assert LimitsBody.model_validate({"gpu_seconds_burst": None}).model_fields_set
    assert not LimitsBody.model_validate({"gpu_seconds_burst": ""}).model_fields_set


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/images/generations"])
@pytest.mark.parametrize("empty", ["", None])
async def test_a_required_field_is_still_asked_for(
    client: httpx2.AsyncClient, path: str, empty: str | None
) -> None:
    answer = await client.post(path, json={"prompt": empty})

    assert answer.status_code in (400, 422)
    error = answer.json().get("error") or answer.json()
    assert error["param"] == "prompt"
    assert "prompt" in (error.get("message") or error["detail"])


async def test_all_of_a_job_at_once(client: httpx2.AsyncClient) -> None:
    optional = [name for name in JobBody.model_fields if name != "prompt"]
    asked = {**PROMPT, **dict.fromkeys(optional, "")}

    answer = await client.post("/v1/jobs", json=asked, headers={"Idempotency-Key": ""})

    assert answer.status_code == 202, answer.text
    assert answer.json()["model"] == "sfumato-embedded"
    again = await client.post("/v1/jobs", json=asked, headers={"Idempotency-Key": ""})
    assert again.json()["id"] != answer.json()["id"], "an empty key is none"


@pytest.mark.parametrize("empty", ["", "null"])
async def test_fields_and_files_of_a_form(
    client: httpx2.AsyncClient, services: Services, empty: str
) -> None:
    """As browsers send what was left empty, and JavaScript a null."""
    free_text = {"negative_prompt", "model", "size", "user", "safety_identifier"}
    left_out = EditBody.model_fields.keys() - {"prompt"} - (free_text if empty else set())
    sent = browser_form(
        {**PROMPT, **dict.fromkeys(left_out, empty)},
        ("image", "a.png", file_of(picture())),
        ("image[]", "", b""),
        ("mask", "", b""),
        ("control_image", "", b""),
        ("negative_prompt", "", b""),
    )

    claim = await edited(client, services, sent)

    assert claim.request.mask is None
    assert claim.request.control_image is None


@pytest.mark.parametrize("empty", ["", "null"])
async def test_a_text_in_place_of_no_mask(
    client: httpx2.AsyncClient, services: Services, empty: str
) -> None:
    data = {**PROMPT, "mask": empty}
    claim = await edited(client, services, {"data": data, "files": {"image": file_of(picture())}})

    assert claim.request.mask is None


async def test_a_mask_that_is_sent_is_not_left_out(
    client: httpx2.AsyncClient, services: Services
) -> None:
    """One with a name and no byte went wrong on its way: without it all would be painted over."""
    files: dict[str, Any] = {"image": file_of(picture()), "mask": ("mask.png", b"")}
    answer = await client.post("/v1/images/edits", data=PROMPT, files=files)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "mask")

    parts = ("image", "a.png", file_of(picture())), ("mask", "", file_of(mask_of()))
    claim = await edited(client, services, browser_form(PROMPT, *parts))
    assert claim.request.mask is not None


async def test_null_may_be_meant_where_any_text_is_taken(
    client: httpx2.AsyncClient, services: Services
) -> None:
    data = {**PROMPT, "negative_prompt": "null"}
    claim = await edited(client, services, {"data": data, "files": {"image": file_of(picture())}})

    assert claim.request.negative_prompt == "null"


def optional_parameters() -> Iterator[tuple[str, str, str, str]]:
    """Verb, path, place and name of each optional query parameter and header."""
    document = described()
    for path, verbs in document["paths"].items():
        for verb, operation in verbs.items():
            for parameter in operation.get("parameters", ()):
                if parameter["in"] in ("query", "header") and not parameter.get("required"):
                    yield verb.upper(), path, parameter["in"], parameter["name"]


def test_there_are_such_parameters() -> None:
    assert len(set(optional_parameters())) > 30


async def test_every_optional_parameter(
    client: httpx2.AsyncClient, operator: httpx2.AsyncClient, subtests: pytest.Subtests
) -> None:
    job = (await client.post("/v1/jobs", json={**PROMPT, "seed": 1})).json()
    await client.delete(f"/v1/jobs/{job['id']}")
    webhook = await client.post("/v1/webhooks", json={"url": "https://example.com/hook"})
    ids = {
        "job_id": job["id"],
        "image_id": job["images"][0]["id"],
        "webhook_id": webhook.json()["id"],
        "variant": "original",
    }
    for verb, path, place, name in optional_parameters():
        with subtests.test(f"{verb} {path} {name}"):
            asker = operator if path.startswith("/v1/tenants") else client
            url = path.format(**ids)
            without = await asker.request(verb, url)
            where = "params" if place == "query" else "headers"
            for empty in ("", "null") if name in NO_TEXT else ("",):
                sent: dict[str, Any] = {where: {name: empty}}
                answer = await asker.request(verb, url, **sent)
                assert answer.status_code == without.status_code, answer.text
                told = [_plain(each) for each in (answer, without)]
                assert told[0] == told[1]


NO_TEXT = {"limit", "state", "seed", "favourite", "created_after", "since", "tenant_id", "previews"}


def _plain(answer: httpx2.Response) -> str:
    return answer.text.replace(answer.headers["x-request-id"], "")


async def test_what_is_not_known_is_refused_though_it_is_empty(client: httpx2.AsyncClient) -> None:
    assert (await client.get("/v1/jobs?page=")).status_code == 422
    assert (await client.post("/v1/jobs", json={**PROMPT, "pages": ""})).status_code == 422


async def test_other_parameters_are_kept_as_they_are(client: httpx2.AsyncClient) -> None:
    for seed in (1, 2):
        await client.post("/v1/jobs", json={**PROMPT, "seed": seed})

    answer = await client.get("/v1/jobs?after=&limit=1&state=queued&model=")

    assert len(answer.json()["data"]) == 1
    assert answer.json()["has_more"]


async def test_a_key_in_one_header_beside_an_empty_one(
    anonymous: httpx2.AsyncClient, key: str
) -> None:
    for headers in (
        {"Authorization": "", "X-API-Key": key},
        {"Authorization": "Bearer ", "X-API-Key": f" {key} "},
        {"Authorization": f"Bearer {key}", "X-API-Key": ""},
    ):
        assert (await anonymous.get("/v1/models", headers=headers)).status_code == 200
    assert (await anonymous.get("/v1/models", headers={"X-API-Key": ""})).status_code == 401


async def test_over_the_socket(address: str, key: str, client: httpx2.AsyncClient) -> None:
    job = (await client.post("/v1/jobs", json=PROMPT)).json()
    async with connect(f"{address}?ticket=") as events:
        await say(events, type="authenticate", key=key)
        assert (await told(events))["type"] == "authenticated"
        await say(events, type="watch", job_id=job["id"], after="")
        async with asyncio.timeout(10):
            assert (await told(events))["seq"] == 1
