"""Where a picture is from, asked of a service that signs its own."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from pipelines.imaging.credentials.certificate import SELF_MADE, self_made_pair
from pipelines.imaging.credentials.sign import CredentialSigner
from pipelines.imaging.encode import encode
from pipelines.imaging.format import PictureFormat
from serve.api.services import Services
from serve.pictures.credentials import make_pair, own_folder
from serve.settings import CredentialSettings, Settings
from tests.pipelines.imaging.pictures import scene
from tests.serve.api.drawing import Desk

NONE: dict[str, Any] = {
    "status": "none",
    "signer": None,
    "self_made": False,
    "software": None,
    "actions": [],
    "source_type": None,
    "created_at": None,
    "faults": [],
}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    make_pair(own_folder(settings))
    return settings.model_copy(update={"credentials": CredentialSettings(enabled=True)})


async def told_of(client: httpx2.AsyncClient, file: bytes) -> dict[str, Any]:
    answer = await client.post("/v1/images/verify", files={"image": ("a.png", file)})
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert isinstance(told, dict)
    return told


async def test_its_own_pictures_in_every_format(
    client: httpx2.AsyncClient, services: Services
) -> None:
    desk = Desk(services)
    job = (await client.post("/v1/jobs", json={"prompt": "a red heart"})).json()
    [claim] = await desk.claim()
    await desk.finish(claim)
    for name in ("original", *PictureFormat):
        file = await client.get(f"/v1/images/{claim.image_id}/{name}")
        told = await told_of(client, file.content)
        assert told["software"].startswith("Sfumato")
        assert told["created_at"][:19] == job["created_at"][:19]
        assert told["actions"][0] == "c2pa.created"
        del told["software"], told["created_at"], told["actions"]
        assert told == {
            "status": "trusted",
            "signer": SELF_MADE,
            "self_made": True,
            "source_type": "trainedAlgorithmicMedia",
            "faults": [],
        }


async def test_a_stranger_s_picture_and_an_unsigned_one(client: httpx2.AsyncClient) -> None:
    file = encode(scene(16, 16))
    signed = CredentialSigner(self_made_pair()).sign(file, PictureFormat.PNG, {})

    assert (await told_of(client, signed))["status"] == "intact"
    assert await told_of(client, file) == NONE


async def test_what_is_no_picture_is_refused(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/v1/images/verify", files={"image": ("a.png", b"no picture")})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (
        400,
        "unsupported_image",
        "image",
    )
