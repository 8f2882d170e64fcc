"""The model list in OpenAI's shape."""

from __future__ import annotations

import httpx2


async def test_listed(client: httpx2.AsyncClient) -> None:
    told = (await client.get("/v1/models")).json()

    assert told["object"] == "list"
    assert [model["id"] for model in told["data"]] == ["sfumato-embedded", "flow"]
    assert set(told["data"][0]) == {"id", "object", "created", "owned_by"}


async def test_looked_at(client: httpx2.AsyncClient) -> None:
    for name in ("sfumato-embedded", "flow"):
        told = (await client.get(f"/v1/models/{name}")).json()

        assert told["id"] == name
