"""Pictures by URL: signed, for a while, at any ingress."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from uuid import UUID, uuid4

import httpx2
import openai
import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from serve.api.app import create_app
from serve.api.services import Services, open_services
from serve.pictures.signed_urls import InvalidSignature, SignedUrls
from serve.settings import HttpSettings
from tests.serve.api.test_generations import HEART, PATH, drawn


async def signed_url(client: httpx2.AsyncClient, services: Services) -> str:
    """Of a picture that is drawn for it."""
    drawing = asyncio.create_task(drawn(client, services))
    answer = await client.post(PATH, json={**HEART, "response_format": "url"})
    await drawing
    (picture,) = answer.json()["data"]
    assert set(picture) == {"url"}
    return str(picture["url"])


async def test_a_url_opens_the_picture_without_a_key_at_another_ingress(
    client: httpx2.AsyncClient, services: Services
) -> None:
    url = await signed_url(client, services)
    other = create_app(
        dataclasses.replace(open_services(services.settings), served=services.served)
    )
    async with (
        other.router.lifespan_context(other),
        httpx2.AsyncClient(transport=httpx2.ASGITransport(app=other)) as elsewhere,
    ):
        answer = await elsewhere.get(url)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda url: url[:-1] + ("A" if url[-1] != "A" else "E"),
        lambda url: url[:-20],
        lambda url: url.replace("/original?", "/thumbnail?"),
        lambda url: url.replace("signature=", "signature=%00"),
        lambda url: url + "A" * 200,
    ],
    ids=["changed", "cut", "other file", "NUL", "too long"],
)
async def test_a_spoilt_signature_opens_nothing(
    client: httpx2.AsyncClient,
    anonymous: httpx2.AsyncClient,
    services: Services,
    spoil: Callable[[str], str],
) -> None:
    url = await signed_url(client, services)
    answer = await anonymous.get(spoil(url))
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "invalid_signature"


async def test_a_signature_ends(
    app: FastAPI, client: httpx2.AsyncClient, anonymous: httpx2.AsyncClient, services: Services
) -> None:
    url = await signed_url(client, services)
    image_id = UUID((await client.get("/v1/images")).json()["data"][0]["id"])
    tenant_id = (await services.keys.list())[0].tenant_id
    past = SignedUrls(
        services.database, services.settings.http.model_copy(update={"url_ttl_s": -1})
    )
    late = await past.sign(tenant_id, image_id, "original")
    answer = await anonymous.get(url.partition("signature=")[0] + "signature=" + late)
    assert answer.status_code == 403
    assert "expired" in answer.json()["error"]["message"]


async def test_a_previous_secret_opens_what_it_signed_and_signs_nothing(
    services: Services,
) -> None:
    def signed_by(secret: str, previous: str | None = None) -> SignedUrls:
        old = SecretStr(previous) if previous else None
        http = HttpSettings(url_secret=SecretStr(secret), previous_url_secret=old)
        return SignedUrls(services.database, http)

    before, after = signed_by("a" * 32), signed_by("b" * 32, previous="a" * 32)
    file, tenant_id = (uuid4(), "original"), uuid4()
    assert await after.tenant_of(await before.sign(tenant_id, *file), *file) == tenant_id
    assert (
        await signed_by("b" * 32).tenant_of(await after.sign(tenant_id, *file), *file) == tenant_id
    )
    with pytest.raises(InvalidSignature):
        await signed_by("b" * 32).tenant_of(await before.sign(tenant_id, *file), *file)


async def test_openai_client_asks_for_a_url(
    server: str, key: str, client: httpx2.AsyncClient, services: Services
) -> None:
    drawing = asyncio.create_task(drawn(client, services))
    async with openai.AsyncOpenAI(base_url=f"{server}/v1", api_key=key) as asking:
        answer = await asking.images.generate(prompt="a red heart", response_format="url")
    await drawing
    assert answer.data
    assert answer.data[0].url
    async with httpx2.AsyncClient() as browser:
        assert (await browser.get(answer.data[0].url)).headers["content-type"] == "image/png"
