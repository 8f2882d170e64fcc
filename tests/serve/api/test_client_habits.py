"""What front ends and other services' clients send: they get their picture, or a hint."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2
import pytest

from serve.api.services import Services
from tests.serve.api.refusals.uploads import file_of, picture
from tests.serve.api.test_generations import drawn
from tests.serve.api.test_uploads import edited

PROMPT = {"prompt": "a red heart"}


async def test_a_seed_of_minus_one_is_any(client: httpx2.AsyncClient) -> None:
    seeds = set()
    for _ in range(2):
        job = (await client.post("/v1/jobs", json={**PROMPT, "seed": -1})).json()
        seeds.add(job["params"]["seed"])

    assert len(seeds) == 2
    assert min(seeds) >= 0


async def test_it_is_the_same_under_the_same_key(client: httpx2.AsyncClient) -> None:
    headers = {"Idempotency-Key": "order-1"}
    first, again = [
        (await client.post("/v1/jobs", json={**PROMPT, "seed": -1}, headers=headers)).json()
        for _ in range(2)
    ]

    assert first["id"] == again["id"]


async def test_in_a_form_too(client: httpx2.AsyncClient, services: Services) -> None:
    data = {**PROMPT, "seed": "-1"}
    claim = await edited(client, services, {"data": data, "files": {"image": file_of(picture())}})

    assert claim.request.seed >= 0


HABITS: dict[str, dict[str, Any]] = {
    "nulls": {"model": None, "quality": None, "style": None, "size": None, "n": None, "seed": None},
    "OpenAI's newer fields": {"quality": "auto", "background": "auto", "moderation": "auto"},
    "OpenAI's older fields": {"quality": "standard", "style": "vivid", "user": "u"},
    "size auto": {"size": "auto"},
    "no stream": {"stream": False, "partial_images": 0},
    "empty texts": {"model": "", "quality": "", "style": "", "response_format": "", "user": ""},
}


@pytest.mark.parametrize("name", HABITS)
async def test_gets_its_picture(client: httpx2.AsyncClient, services: Services, name: str) -> None:
    drawing = asyncio.create_task(drawn(client, services))
    answer = await client.post("/v1/images/generations", json={**PROMPT, **HABITS[name]})
    await drawing

    assert answer.status_code == 200, answer.text
    assert answer.json()["data"][0]["b64_json"]


HINTS = {
    "cfg_scale": "guidance_scale",
    "guidance": "guidance_scale",
    "CFG_Scale": "guidance_scale",
    "steps": "num_inference_steps",
    "width": "size",
    "height": "size",
    "aspect_ratio": "size",
    "num_images": "n",
    "batch_size": "n",
    "sampler_name": "scheduler",
    "promt": "prompt",
    "negativePrompt": "negative_prompt",
    "outputFormat": "output_format",
    "num_inference_step": "num_inference_steps",
    "format": "output_format",
}


@pytest.mark.parametrize("field", HINTS)
async def test_is_told_the_right_name(client: httpx2.AsyncClient, field: str) -> None:
    answer = await client.post("/v1/images/generations", json={**PROMPT, field: 1})

    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, "unknown_field", field)
    assert f"Unknown field `{field}`; use `{HINTS[field]}`." in error["message"]


@pytest.mark.parametrize("field", ["width", "height"])
async def test_a_job_takes_both_sides(client: httpx2.AsyncClient, field: str) -> None:
    """So the hint there is another."""
    answer = await client.post("/v1/jobs", json={**PROMPT, "width": 64, "height": 64})
    assert answer.status_code == 202
    answer = await client.post("/v1/jobs", json={**PROMPT, field: 64})
    assert "`width` and `height` go together" in answer.json()["detail"]


async def test_what_is_like_nothing_is_not_guessed(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/v1/images/generations", json={**PROMPT, "metadata": {"a": "b"}})

    message = answer.json()["error"]["message"]
    assert message.startswith("Unknown field `metadata`. Known fields: prompt, ")


async def test_within_loras_and_control(client: httpx2.AsyncClient) -> None:
    for body in (
        {"loras": [{"name": "ink", "weight": 1}]},
        {"control": {"name": "edges", "strength": 1}},
    ):
        answer = await client.post("/v1/jobs", json={**PROMPT, **body})
        assert "; use `scale`." in answer.json()["detail"]


async def test_an_edit_names_its_own_fields(client: httpx2.AsyncClient) -> None:
    files = {"image": file_of(picture())}
    data = {**PROMPT, "denoising_strength": "0.5"}
    answer = await client.post("/v1/images/edits", data=data, files=files)
    assert "; use `strength`." in answer.json()["error"]["message"]
    answer = await client.post("/v1/images/edits", json={**PROMPT, "image": "data:"})
    assert "; use `images`." in answer.json()["error"]["message"]


@pytest.mark.parametrize("text", ["True", "true", "TRUE", "1", "on", "yes"])
async def test_a_switch_of_a_form_is_on(client: httpx2.AsyncClient, text: str) -> None:
    answer = await client.post(
        "/v1/images/edits",
        data={**PROMPT, "stream": text, "response_format": "url"},
        files={"image": file_of(picture())},
    )

    assert "A stream carries the pictures themselves" in answer.json()["error"]["message"]


@pytest.mark.parametrize("text", ["False", "false", "0", "off", "no"])
async def test_a_switch_of_a_form_is_off(client: httpx2.AsyncClient, text: str) -> None:
    answer = await client.post(
        "/v1/images/edits",
        data={**PROMPT, "stream": text, "partial_images": "1"},
        files={"image": file_of(picture())},
    )

    assert "set `stream` as well" in answer.json()["error"]["message"]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b" \t\n\n"])
async def test_blanks_around_json(client: httpx2.AsyncClient, end: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    content = end + b'{"prompt": "a red heart"}' + end
    assert (await client.post("/v1/jobs", content=content, headers=headers)).status_code == 202


async def test_a_byte_order_mark_before_json(client: httpx2.AsyncClient) -> None:
    headers = {"Content-Type": "application/json"}
    content = b'\xef\xbb\xbf{"prompt": "a red heart"}'
    assert (await client.post("/v1/jobs", content=content, headers=headers)).status_code == 202


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r\n\r\n", b"\x00", b"x"])
async def test_bytes_after_a_form(
    client: httpx2.AsyncClient, services: Services, end: bytes
) -> None:
    request = httpx2.Request(
        "POST", "http://sfumato", data=PROMPT, files={"image": file_of(picture())}
    )
    headers = {"Content-Type": request.headers["content-type"]}
    await edited(client, services, {"content": request.read() + end, "headers": headers})


TRAILING = {
    b"\x00": "byte 25 of 26",
    b"x": "Extra data at 25; nothing may follow",
    b"{}": "Extra data at 25; nothing may follow",
    b"\xff": "byte 25 of 26",
}


@pytest.mark.parametrize("end", TRAILING)
async def test_anything_else_after_json_is_told_with_its_place(
    client: httpx2.AsyncClient, end: bytes
) -> None:
    headers = {"Content-Type": "application/json"}
    answer = await client.post(
        "/v1/jobs", content=b'{"prompt": "a red heart"}' + end, headers=headers
    )

    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_json")
    assert TRAILING[end] in answer.json()["detail"]


async def test_a_field_of_one_letter_is_named(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/v1/jobs", json={**PROMPT, "n": 1.0})

    assert answer.json()["detail"] == "n: Input should be a valid integer"
