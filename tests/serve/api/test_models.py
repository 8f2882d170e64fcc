"""The model list in OpenAI's shape."""

from __future__ import annotations

import httpx2


async def test_listed(client: httpx2.AsyncClient) -> None:
    told = (await client.get("/v1/models")).json()

    assert told["object"] == "list"
    assert [model["id"] for model in told["data"]] == ["sfumato-embedded"]
    assert set(told["data"][0]) == {"id", "object", "created", "owned_by"}


async def test_looked_at(client: httpx2.AsyncClient) -> None:
    told = (await client.get("/v1/models/sfumato-embedded")).json()

    assert told["id"] == "sfumato-embedded"
