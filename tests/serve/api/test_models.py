"""The model list in OpenAI's shape."""

from __future__ import annotations

import httpx2
import pytest

from serve.api.services import Services
from tests.serve.api.refusals.uploads import file_of, picture
from tests.serve.api.test_uploads import edited

ALIASES = ["dall-e-3", "gpt-image-1"]


async def test_listed(client: httpx2.AsyncClient) -> None:
    told = (await client.get("/v1/models")).json()

    assert told["object"] == "list"
    assert [model["id"] for model in told["data"]] == ["sfumato-embedded", "flow"]
    assert {told["data"][0][name] for name in ("object", "owned_by")} == {"model", "sfumato"}
    assert told["data"][0]["created"] == told["data"][1]["created"] > 0


async def test_looked_at(client: httpx2.AsyncClient) -> None:
    for name in ("sfumato-embedded", "flow"):
        told = (await client.get(f"/v1/models/{name}")).json()

        assert told["id"] == name


async def test_what_a_request_may_ask_of_each(client: httpx2.AsyncClient) -> None:
    first, flow = (await client.get("/v1/models")).json()["data"]

    assert (first["aliases"], flow["aliases"]) == (["dall-e-3", "gpt-image-1"], [])
    assert (first["loras"], first["controlnets"]) == (["ink", "pastel"], ["edges"])
    assert (flow["loras"], flow["controlnets"]) == ([], [])
    assert {"default", "ddim", "lcm"} < set(first["schedulers"])
    assert flow["schedulers"] == ["default", "flow_match_euler"]
    assert (first["default_size"], flow["default_size"]) == ("64x64", "128x96")
    assert (first["size_multiple"], flow["size_multiple"]) == (8, 16)
    assert (first["default_steps"], first["max_steps"]) == (20, 150)
    assert (flow["default_steps"], flow["max_steps"]) == (4, 8)
    assert (first["default_guidance_scale"], flow["max_pixels"]) == (3.0, 128 * 128)
    assert (first["takes_image"], first["needs_image"], first["needs_mask"]) == (True, False, False)
    assert (first["max_clip_skip"], flow["max_clip_skip"]) == (3, 0)
    assert first["output_formats"] == ["png", "webp", "jpeg", "avif"]


@pytest.mark.parametrize("alias", ALIASES)
async def test_an_alias_is_its_model(client: httpx2.AsyncClient, alias: str) -> None:
    told = (await client.get(f"/v1/models/{alias}")).json()
    assert told["id"] == "sfumato-embedded"
    assert told["aliases"] == ALIASES

    job = (await client.post("/v1/jobs", json={"prompt": "a red heart", "model": alias})).json()
    assert job["model"] == job["params"]["model"] == "sfumato-embedded"
    await client.post("/v1/jobs", json={"prompt": "a red heart", "model": "flow"})
    for name in (alias, "sfumato-embedded"):
        listed = (await client.get("/v1/jobs", params={"model": name})).json()["data"]
        assert [each["id"] for each in listed] == [job["id"]]


async def test_an_alias_and_its_model_are_the_same_request(client: httpx2.AsyncClient) -> None:
    ids = set()
    for name in (*ALIASES, "sfumato-embedded", None):
        answer = await client.post(
            "/v1/jobs",
            json={"prompt": "a red heart", "model": name},
            headers={"Idempotency-Key": "order-7"},
        )
        ids.add(answer.json()["id"])

    assert len(ids) == 1


async def test_pictures_are_found_and_edited_by_alias(
    client: httpx2.AsyncClient, services: Services
) -> None:
    data = {"prompt": "a red heart", "model": "dall-e-3"}
    await edited(client, services, {"data": data, "files": {"image": file_of(picture())}})

    for name, count in (("dall-e-3", 1), ("sfumato-embedded", 1), ("flow", 0)):
        listed = await client.get("/v1/images", params={"model": name})
        assert len(listed.json()["data"]) == count


async def test_a_name_that_is_not_served_is_told_those_that_are(
    client: httpx2.AsyncClient,
) -> None:
    asked = {"prompt": "a red heart", "model": "dall-e-2"}
    answer = await client.post("/v1/images/generations", json=asked)

    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (404, "model")
    assert error["message"] == (
        "The model 'dall-e-2' is not served here; use 'sfumato-embedded' or 'flow'."
    )
    assert (await client.get("/v1/models/dall-e-2")).status_code == 404
