"""Every model has bounds of its own."""

from __future__ import annotations

import asyncio

import httpx2
import pytest

from pipelines.diffusion.errors import ModelNotFoundError
from serve.api.services import Services, open_services
from serve.settings import FurtherModelSettings, Settings
from tests.serve.api.drawing import Desk

FLOW = {"prompt": "a red heart", "model": "flow"}


async def test_defaults_are_those_of_the_model(client: httpx2.AsyncClient) -> None:
    params = (await client.post("/v1/jobs", json=FLOW)).json()["params"]

    assert (params["model"], params["width"], params["height"]) == ("flow", 128, 96)
    assert (params["num_inference_steps"], params["guidance_scale"]) == (4, 1.5)


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"size": "72x72"}, "size"),  # a multiple of 8, and not of 16
        ({"width": 256, "height": 128}, "width"),
        ({"num_inference_steps": 9}, "num_inference_steps"),
        ({"scheduler": "ddim"}, "scheduler"),
    ],
)
async def test_what_one_model_takes_another_refuses(
    client: httpx2.AsyncClient, asked: dict[str, object], param: str
) -> None:
    taken = await client.post("/v1/jobs", json={**FLOW, **asked, "model": "sfumato-embedded"})
    refused = await client.post("/v1/jobs", json={**FLOW, **asked})

    assert taken.status_code == 202, taken.text
    assert (refused.status_code, refused.json()["param"]) == (422, param)


async def test_a_scheduler_for_the_one_that_predicts_a_flow(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/v1/jobs", json={**FLOW, "scheduler": "flow_match_euler"})

    assert answer.status_code == 202, answer.text


async def test_quality_multiplies_the_steps_of_the_model(
    client: httpx2.AsyncClient, services: Services
) -> None:
    desk = Desk(services)
    asked = asyncio.create_task(
        client.post("/v1/images/generations", json={**FLOW, "quality": "high"})
    )
    async with asyncio.timeout(10):
        while not (claimed := await desk.claim()):
            await asyncio.sleep(0.02)
    (claim,) = claimed
    await desk.finish(claim)

    assert (await asked).status_code == 200
    assert (claim.request.model, claim.request.num_inference_steps) == ("flow", 6)


async def test_an_unknown_model_is_told_which_there_are(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/v1/jobs", json={**FLOW, "model": "dall-e-9"})

    assert answer.status_code == 404
    assert answer.json()["detail"] == (
        "The model 'dall-e-9' is not served here; use 'sfumato-embedded' or 'flow'."
    )


def test_a_folder_that_is_not_there_is_told_with_its_model(settings: Settings) -> None:
    lost = settings.model_copy(update={"models": {"lost": FurtherModelSettings(path="/no/such")}})

    with pytest.raises(ModelNotFoundError, match=r"^Model 'lost': There is no model folder '/no/s"):
        open_services(lost)
