"""Every model has bounds of its own."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial

import httpx2
import pytest

from pipelines.diffusion.errors import ModelNotFoundError
from serve.api.app import create_app
from serve.api.services import Services, open_services
from serve.jobs.limits import Limits, ServedModels
from serve.settings import FurtherModelSettings, Settings
from tests.serve.api.conftest import FLOW as FLOW_MODEL
from tests.serve.api.conftest import MODEL, client_of, count_rows
from tests.serve.api.drawing import Desk
from tests.serve.api.refusals.uploads import file_of, picture

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


PROMPT = {"prompt": "a red heart"}
EVERYWHERE = ("jobs", "images/generations", "images/edits", "images/variations")


async def asked(client: httpx2.AsyncClient, route: str, **fields: object) -> httpx2.Response:
    """As JSON, or as a form with a picture."""
    path = f"/v1/{route}"
    if route not in ("images/edits", "images/variations"):
        return await client.post(path, json={**PROMPT, **fields})
    data = {name: str(value) for name, value in {**PROMPT, **fields}.items()}
    return await client.post(path, data=data, files={"image": file_of(picture(64, 64))})


@pytest.mark.parametrize("route", EVERYWHERE)
@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"scheduler": "lcm", "num_inference_steps": 51}, "num_inference_steps"),
        ({"scheduler": "lcm", "num_inference_steps": 150}, "num_inference_steps"),
        ({"size": "16384x8", "output_format": "webp"}, "size"),
        ({"size": "65504x8", "output_format": "jpeg"}, "size"),
    ],
)
async def test_what_neither_scheduler_nor_encoder_can_do_is_no_job(
    client: httpx2.AsyncClient,
    services: Services,
    route: str,
    fields: dict[str, object],
    param: str,
) -> None:
    answer = await asked(client, route, **fields)

    told = answer.json().get("error") or answer.json()
    assert answer.status_code == (422 if route == "jobs" else 400), answer.text
    assert told["param"] == param
    assert await count_rows(services.database, "jobs") == 0


async def test_a_prompt_too_long_for_the_file_is_no_job(
    services: Services, key: str, client: httpx2.AsyncClient
) -> None:
    """Where the operator allows such prompts: those of the default always fit."""
    jobs = services.settings.jobs.model_copy(update={"max_prompt_chars": 40_000})
    settings = services.settings.model_copy(update={"jobs": jobs})
    models = ServedModels(settings, services.served.descriptions)
    app = create_app(replace(services, settings=settings, served=models))
    body = {"prompt": "🦊" * 20_000}
    async with client_of(app, key) as caller:
        refused = await caller.post("/v1/jobs", json={**body, "output_format": "jpeg"})
        taken = await caller.post("/v1/jobs", json=body)

    assert (refused.status_code, refused.json()["param"]) == (422, "prompt")
    assert "ask for png" in refused.json()["detail"]
    assert taken.status_code == 202, taken.text


async def test_png_takes_what_others_cannot(client: httpx2.AsyncClient) -> None:
    fields = {"prompt": "🦊" * 4000, "negative_prompt": "🦊" * 4000, "size": "65536x8"}
    answer = await client.post("/v1/jobs", json={**fields, "scheduler": "lcm"})

    assert answer.status_code == 202, answer.text


async def test_steps_that_are_left_out_are_what_the_scheduler_can_make(
    client: httpx2.AsyncClient, services: Services, key: str
) -> None:
    """Though the model's default be beyond."""
    model = services.settings.model.model_copy(update={"default_steps": 90})
    settings = services.settings.model_copy(update={"model": model})
    models = ServedModels(settings, services.served.descriptions)
    app = create_app(replace(services, settings=settings, served=models))
    async with client_of(app, key) as caller:
        plain = await caller.post("/v1/jobs", json=PROMPT)
        lcm = await caller.post("/v1/jobs", json={**PROMPT, "scheduler": "lcm"})

    assert plain.json()["params"]["num_inference_steps"] == 90
    assert lcm.json()["params"]["num_inference_steps"] == 50


@pytest.mark.parametrize("route", ["jobs", "images/generations"])
async def test_a_model_that_needs_a_picture_is_asked_with_one(
    services: Services, key: str, client: httpx2.AsyncClient, route: str
) -> None:
    models = {"sfumato-embedded": replace(MODEL, needs_image=True), "flow": FLOW_MODEL}
    async with client_of(
        create_app(replace(services, served=ServedModels(services.settings, models))), key
    ) as caller:
        answer = await asked(caller, route)

    told = answer.json().get("error") or answer.json()
    assert (answer.status_code, told["param"]) == (422 if route == "jobs" else 400, "model")
    assert "give an image" in answer.text


async def test_a_side_is_no_longer_than_the_models_positions(
    services: Services, key: str, client: httpx2.AsyncClient
) -> None:
    models = {"sfumato-embedded": replace(MODEL, max_side=96), "flow": FLOW_MODEL}
    async with client_of(
        create_app(replace(services, served=ServedModels(services.settings, models))), key
    ) as caller:
        refused = await caller.post("/v1/jobs", json={**PROMPT, "size": "104x8"})
        taken = await caller.post("/v1/jobs", json={**PROMPT, "size": "96x8"})
        told = (await caller.get("/v1/models/sfumato-embedded")).json()

    assert (refused.status_code, refused.json()["param"]) == (422, "size")
    assert (taken.status_code, told["max_side"]) == (202, 96)


def test_the_shape_of_a_source_gives_way_to_model_and_format(settings: Settings) -> None:
    flat = replace(MODEL, default_width=2**18, default_height=2)
    of = partial(Limits(settings, "sfumato-embedded", flat).size_from, "auto")
    assert of((2**20, 1), "webp") == (16_376, 8)
    assert of((1, 2**20), "jpeg") == (8, 65_496)
    assert of((2**20, 1), "png") == (65_536, 8)
    sided = replace(flat, max_side=100)
    assert Limits(settings, "sfumato-embedded", sided).size_from(None, (2**20, 1), "png") == (96, 8)


def test_a_folder_that_is_not_there_is_told_with_its_model(settings: Settings) -> None:
    lost = settings.model_copy(update={"models": {"lost": FurtherModelSettings(path="/no/such")}})

    with pytest.raises(ModelNotFoundError, match=r"^Model 'lost': There is no model folder '/no/s"):
        open_services(lost)
