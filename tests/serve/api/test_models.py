"""The model list in OpenAI's shape."""

from __future__ import annotations

import httpx2


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
    assert first["output_formats"] == ["png", "webp", "jpeg"]
