"""How a picture was made, read from a file that is sent in."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from pipelines.imaging.encode import encode
from pipelines.imaging.format import PictureFormat
from pipelines.imaging.metadata.read import read_origin
from serve.api.services import Services
from serve.worker.delivery import PostprocessTask
from tests.pipelines.imaging.metadata.files import AUTOMATIC1111, METADATA, PARAMETERS, png
from tests.pipelines.imaging.pictures import scene
from tests.serve.api.drawing import Desk

PATH = "/v1/images/inspect"


async def told_of(client: httpx2.AsyncClient, file: bytes) -> dict[str, Any]:
    answer = await client.post(PATH, files={"image": ("a.png", file)})
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert isinstance(told, dict)
    return told


@pytest.mark.parametrize("format_", PictureFormat)
async def test_a_picture_of_ours(client: httpx2.AsyncClient, format_: PictureFormat) -> None:
    file = encode(scene(32, 32), format_, None, METADATA)
    assert await told_of(client, file) == {
        "software": "Sfumato",
        "parameters": PARAMETERS,
        "other": {},
        "created_at": METADATA["created_at"],
    }


async def test_a_picture_of_automatic1111(client: httpx2.AsyncClient) -> None:
    told = await told_of(client, png(parameters=AUTOMATIC1111))
    assert told["software"] == "AUTOMATIC1111 v1.10.1"
    assert told["parameters"]["prompt"] == "a lighthouse"


async def test_a_picture_that_says_nothing(client: httpx2.AsyncClient) -> None:
    told = await told_of(client, encode(scene(32, 32)))
    assert told == {"software": None, "parameters": {}, "other": {}, "created_at": None}


@pytest.mark.parametrize(
    ("file", "code"), [(b"no picture", "unsupported_image"), (b"\xff\xd8\xff", "unsupported_image")]
)
async def test_what_is_no_picture_is_refused(
    client: httpx2.AsyncClient, file: bytes, code: str
) -> None:
    answer = await client.post(PATH, files={"image": ("a.png", file)})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, code, "image")


async def test_a_form_without_a_file_is_refused(client: httpx2.AsyncClient) -> None:
    answer = await client.post(PATH, files={"picture": ("a.png", b"")})
    assert answer.status_code == 400


async def test_what_it_was_drawn_with_can_be_sent_back(
    client: httpx2.AsyncClient, services: Services
) -> None:
    """The parameters that are read are those of a job."""
    body = {"prompt": "a red heart", "seed": 7, "num_inference_steps": 3, "scheduler": "euler"}
    await client.post("/v1/jobs", json=body)
    (claim,) = await Desk(services).claim()
    spec = PostprocessTask.of(claim).spec
    told = await told_of(client, encode(scene(64, 64), spec.format, None, spec.metadata))
    again = await client.post("/v1/jobs", json=told["parameters"])
    assert again.status_code == 202, again.text
    assert again.json()["params"]["seed"] == 7


@pytest.mark.parametrize("forbids", ["the client", "the tenant"])
async def test_a_prompt_that_is_withheld(
    client: httpx2.AsyncClient, services: Services, key: str, forbids: str
) -> None:
    body: dict[str, Any] = {"prompt": "a red heart", "negative_prompt": "frame", "seed": 7}
    if forbids == "the client":
        body["withhold_prompt"] = True
    else:
        tenant_id = (await services.keys.authenticate(key)).tenant_id
        await services.tenants.change(tenant_id, {"withhold_prompts": True})
    job = (await client.post("/v1/jobs", json=body)).json()
    assert (job["prompt"], job["params"]["withhold_prompt"]) == ("a red heart", True)
    (claim,) = await Desk(services).claim()
    spec = PostprocessTask.of(claim).spec
    origin = read_origin(encode(scene(64, 64), spec.format, None, spec.metadata))
    assert origin is not None
    assert origin.parameters["seed"] == 7
    assert not {"prompt", "negative_prompt"} & origin.parameters.keys()
