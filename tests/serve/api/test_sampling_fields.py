"""Everything that the engine can be asked for has a field of the HTTP API."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import httpx2
import numpy as np
import pytest

from pipelines.diffusion.request import ControlImage, LoraScale, NoiseScheduler, SamplingParams
from pipelines.imaging.source import open_upload, source_pixels
from serve.api.services import Services
from serve.settings import WorkerSettings
from serve.worker.queue import Claim
from serve.worker.source import Source, SourceLoader
from tests.serve.api.described import Json, described, operations, resolved
from tests.serve.api.drawing import Desk
from tests.serve.api.refusals.uploads import file_of, mask_of, picture

NAMED = {
    **{field.name: field.name for field in fields(SamplingParams)},
    "width": "size",
    "height": "size",
    "control.controlnet": "control.name",
    **{f"control.{field}": f"control.{field}" for field in ("image", "scale", "start", "end")},
    **{f"loras.{field}": f"loras.{field}" for field in ("name", "scale")},
}
"""By a field of the engine's, the field of a body that sets it."""
FROM_A_PICTURE = {"image", "mask", "strength"}
"""Those that need a picture to begin with: of edits, and but for the mask of variations."""
PATHS = {"submitJob": "/v1/jobs", "generate": "/v1/images/generations"} | {
    "edit": "/v1/images/edits",
    "vary": "/v1/images/variations",
}
IMAGE = file_of(picture(64, 64))
FOLLOWED = file_of(picture(64, 64).rotate(90))
CONTROL: Json = {"name": "edges", "scale": 0.5, "start": 0.25, "end": 0.75}
ASKED: Json = {
    "prompt": "a red heart",
    "negative_prompt": "blue",
    "size": "72x48",
    "num_inference_steps": 9,
    "guidance_scale": 2.5,
    "seed": 3,
    "scheduler": "euler",
    "clip_skip": 2,
    "loras": [{"name": "ink", "scale": 0.7}, {"name": "pastel"}],
}
"""Of each field another value than where it is left out."""
EXPECTED: Json = {
    **ASKED,
    "width": 72,
    "height": 48,
    "scheduler": NoiseScheduler.EULER,
    "loras": (LoraScale("ink", 0.7), LoraScale("pastel", 1.0)),
    "strength": 1.0,
}


def test_every_field_of_the_engines_is_told_by_the_contract() -> None:
    engine = {field.name for field in fields(SamplingParams)}
    engine |= {f"control.{field.name}" for field in fields(ControlImage)}
    engine |= {f"loras.{field.name}" for field in fields(LoraScale)}
    assert engine == NAMED.keys()
    document = described()
    told = {
        operation["operationId"]: _fields_of(document, operation)
        for _, operation in operations(document)
        if operation["operationId"] in PATHS
    }
    everywhere = set(NAMED.values()) - FROM_A_PICTURE
    assert [everywhere - told[name] for name in PATHS] == [set()] * len(PATHS)
    assert told["edit"] >= FROM_A_PICTURE
    assert told["vary"] & FROM_A_PICTURE == FROM_A_PICTURE - {"mask"}


def _fields_of(document: Json, operation: Json) -> set[str]:
    """Those of the body, and below them as `control.name`."""
    content, *_ = operation["requestBody"]["content"].values()  # an edit may be JSON as well
    properties = resolved(document, content["schema"])["properties"]
    found = set(properties)
    for name, told in properties.items():
        kinds = [told.get("contentSchema", {}), *told.get("anyOf", ())]
        for kind in [*kinds, *(each.get("items", {}) for each in kinds)]:
            found |= {f"{name}.{each}" for each in resolved(document, kind).get("properties", ())}
    return found


@pytest.mark.parametrize("operation", ["submitJob", "generate"])
async def test_a_body_sets_every_field(
    client: httpx2.AsyncClient, services: Services, operation: str
) -> None:
    url = f"data:image/png;base64,{base64.b64encode(FOLLOWED).decode()}"
    body = {**ASKED, "control": {**CONTROL, "image": url}}
    asked = asyncio.create_task(client.post(PATHS[operation], json=body))

    sampling = await _drawn(services, asked)

    _check(sampling, EXPECTED)
    assert (sampling.image, sampling.mask) == (None, None)


@pytest.mark.parametrize("operation", ["edit", "vary"])
async def test_a_form_sets_every_field(
    client: httpx2.AsyncClient, services: Services, operation: str
) -> None:
    data = {
        name: each if isinstance(each, str) else json.dumps(each) for name, each in ASKED.items()
    }
    files = {"image": IMAGE, "control_image": FOLLOWED}
    if operation == "edit":
        files["mask"] = file_of(mask_of(64, 64))
    asked = asyncio.create_task(
        client.post(
            PATHS[operation],
            data={**data, "control": json.dumps(CONTROL), "strength": "0.35"},
            files={name: (name, file, "image/png") for name, file in files.items()},
        )
    )

    sampling = await _drawn(services, asked)

    _check(sampling, EXPECTED | {"strength": 0.35})
    assert sampling.image is not None
    assert sampling.image.shape == (48, 72, 3)
    assert (sampling.mask is None) == (operation == "vary")


async def _drawn(services: Services, asked: asyncio.Task[httpx2.Response]) -> SamplingParams:
    """What the engine is asked for, by way of the tables and the storage."""
    desk = Desk(services)
    async with asyncio.timeout(10):
        while not (claims := await desk.claim()):
            assert not asked.done() or asked.result().status_code == 202, asked.result().text
            await asyncio.sleep(0.02)
    (claim,) = claims
    source = await _source(services, claim)
    await desk.finish(claim)
    assert (await asked).status_code in (200, 202), (await asked).text
    return claim.request.sampling(claim.index, source.image, source.mask, source.control_image)


async def _source(services: Services, claim: Claim) -> Source:
    return await SourceLoader(
        services.storage, WorkerSettings(), services.settings.lora_folder
    ).load(claim)


def _check(sampling: SamplingParams, expected: Mapping[str, Any]) -> None:
    for field in fields(SamplingParams):
        if field.name not in ("image", "mask", "control"):
            assert getattr(sampling, field.name) == expected[field.name], field.name
    control = sampling.control
    assert control is not None
    assert (control.controlnet, control.scale) == (CONTROL["name"], CONTROL["scale"])
    assert (control.start, control.end) == (CONTROL["start"], CONTROL["end"])
    assert np.array_equal(control.image, source_pixels(open_upload(FOLLOWED), (72, 48)))


def test_no_value_is_the_one_of_a_field_left_out() -> None:
    """Else a field that leads nowhere would not show."""
    plain = SamplingParams(
        prompt="", width=64, height=64, num_inference_steps=20, guidance_scale=3.0, seed=0
    )
    for field in fields(SamplingParams):
        if field.name not in (*FROM_A_PICTURE, "control"):
            assert EXPECTED[field.name] != getattr(plain, field.name), field.name
    assert {CONTROL["scale"], CONTROL["start"], CONTROL["end"]}.isdisjoint({0.0, 1.0})
