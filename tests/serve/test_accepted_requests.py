"""What the door accepts can be drawn and written: random requests, every family and format."""

from __future__ import annotations

import io
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pipelines.diffusion.catalog import describe
from pipelines.diffusion.engine import DiffusionEngine
from pipelines.diffusion.families.model import Model
from pipelines.diffusion.loading import load_model
from pipelines.diffusion.request import Failure, NoiseScheduler, Request, Result, SamplingParams
from pipelines.imaging.postprocess import process
from serve.http.errors import InvalidValue
from serve.jobs.limits import Limits
from serve.jobs.request import JobRequest
from serve.jobs.schemas import JobBody
from serve.openai.schemas import EditBody
from serve.settings import ModelSettings, Settings
from serve.tables import MAX_SEED
from serve.worker.delivery import PostprocessTask
from serve.worker.queue import Claim
from tests.pipelines.diffusion.families.test_whole_call_classes import BUILDERS as WHOLE_CALLS
from tests.pipelines.diffusion.lora.lora_files import matrices, save_peft
from tests.pipelines.diffusion.tiny import (
    flux,
    stable_diffusion,
    stable_diffusion_3,
    stable_diffusion_xl,
    z_image,
)
from tests.pipelines.diffusion.tiny.controlnet import build_controlnet

# diffusers 0.42 has not caught up with NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")

REQUESTS = int(os.environ.get("ACCEPTED_REQUESTS", "140"))
SEED = int(os.environ.get("ACCEPTED_SEED", "0"))
AT_ONCE = 4

MODELS: Mapping[str, Callable[[], Any]] = {
    "sd": stable_diffusion.build_pipeline,
    "sd-inpainting": partial(stable_diffusion.build_pipeline, in_channels=9),
    "lcm": partial(stable_diffusion.build_pipeline, time_cond_proj_dim=8),
    "xl": stable_diffusion_xl.build_pipeline,
    "xl-refiner": stable_diffusion_xl.build_refiner,
    "sd3": stable_diffusion_3.build_pipeline,
    "sd3.5-medium": stable_diffusion_3.build_3_5_medium,
    "flux-dev": flux.build_dev,
    "flux-schnell": flux.build_schnell,
    "z-image": z_image.build_pipeline,
    **WHOLE_CALLS,
}
UNETS = {
    "sd": stable_diffusion.UNET,
    "sd-inpainting": stable_diffusion.UNET,
    "lcm": stable_diffusion.UNET,
    "xl": stable_diffusion_xl.UNET,
}
"""What a ControlNet must fit, where one is loaded."""
SHARE = dict.fromkeys(WHOLE_CALLS, 12)
"""Slow ones draw one so many-th of the others' requests."""
WITHOUT_LORAS = {*SHARE, "xl-refiner"}


@dataclass(frozen=True, slots=True)
class Subject:
    model: Model
    limits: Limits
    sources: bool


@pytest.fixture(scope="module", params=MODELS)
def subject(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    name: str = request.param
    folder: Path = tmp_path_factory.mktemp(name)
    pipeline = MODELS[name]()
    pipeline.save_pretrained(folder)
    loras, controlnets = {}, {}
    if name not in WITHOUT_LORAS:
        for seed, lora in enumerate(("ink", "oil")):
            loras[lora] = save_peft(folder / f"{lora}.safetensors", matrices(pipeline, seed))
    if name in UNETS:
        build_controlnet(UNETS[name]).save_pretrained(folder / "edges")
        controlnets["edges"] = folder / "edges"
    settings = ModelSettings(name=name, path=str(folder), loras=loras, controlnets=controlnets)
    description = describe(folder)
    model = load_model(folder, "cpu", "float32", controlnets=controlnets, loras=loras)
    limits = Limits(Settings(model=settings), name, description)
    return Subject(model, limits, description.takes_image)


def test_is_drawn_and_written(
    subject: Subject, record_property: Callable[[str, object], None]
) -> None:
    name = subject.limits.model
    total = sum(1 / SHARE.get(each, 1) for each in MODELS)
    wanted = max(1, round(REQUESTS / total / SHARE.get(name, 1)))
    dice = random.Random(f"{SEED} {name}")
    engine = DiffusionEngine(subject.model, max_batch=AT_ONCE)
    wrong: list[str] = []
    outcomes: Counter[str] = Counter()
    requests = accepted(subject, dice, outcomes)
    for _ in range(0, wanted, AT_ONCE):
        asked = {str(i): next(requests) for i in range(min(AT_ONCE, wanted - outcomes["drawn"]))}
        for id_, request in asked.items():
            engine.add(Request(id_, sampled(request, dice), preview_every=dice.randrange(3)))
        outputs = [each for _ in iter(lambda: engine.has_work, False) for each in engine.step()]
        for output in outputs:
            if isinstance(output, Failure):
                wrong.append(f"{output.reason} {asked[output.request_id]}")
            elif isinstance(output, Result):
                wrong += faults(asked[output.request_id], output.image)
        outcomes["drawn"] += len(asked)
    record_property("requests", dict(outcomes))
    assert wrong == []
    assert outcomes["drawn"] == wanted
    assert not outcomes["refused for None"]


def accepted(subject: Subject, dice: random.Random, outcomes: Counter[str]) -> Iterator[JobRequest]:
    """Random requests, by way of what the routes ask before a job exists."""
    while True:
        edits = subject.sources and dice.random() < 0.5
        try:
            yield (an_edit if edits else a_job)(subject.limits, dice)
        except InvalidValue as error:
            outcomes[f"refused for {error.param}"] += 1


def a_job(limits: Limits, dice: random.Random) -> JobRequest:
    body = JobBody.model_validate(fields(dice))
    limits.check_source(image=False)
    return limits.accept(body, size=limits.size(body.size, body.width, body.height))


def an_edit(limits: Limits, dice: random.Random) -> JobRequest:
    more = {"strength": dice.choice([None, 0.01, 0.3, 0.5, 0.99, 1.0])}
    body = EditBody.model_validate(fields(dice) | more)
    masked = dice.random() < 0.5
    limits.check_source(image=True, mask=masked)
    asked = limits.accept(body, size=limits.size(body.size))
    strength = limits.strength(
        body.strength, body.default_strength(mask=masked), asked.num_inference_steps
    )
    own = dice.choice([(64, 64), (100, 30), (7, 900), (1, 1), (4000, 3)])
    width, height = limits.size_from(body.size, own, asked.output_format)
    return replace(
        asked,
        width=width,
        height=height,
        strength=strength,
        image="a" * 64,
        mask="b" * 64 if masked else None,
    )


def fields(dice: random.Random) -> dict[str, Any]:
    """Values that somebody may send; many are refused."""
    side = partial(dice.choice, [8, 16, 24, 32, 40, 48, 56, 64, 72, 96])
    sizes = [None, "auto", *(f"{side()}x{side()}" for _ in range(12)), "8x400", "1024x8", "20x20"]
    sizes += ["16384x8"] if dice.random() < 0.02 else []
    steps = [None, 1, 1, 2, 2, 3, 3, 4, 5, 6, dice.choice([7, 10, 25, 49, 50, 51, 150, 151])]
    text = partial(
        dice.choice, ["a red fox", "", "x", "größe 猫 🦊", "fox " * 60, "a\n\tb", "?!", "🦊" * 4000]
    )
    asked = {
        "prompt": text(),
        "negative_prompt": dice.choice([None, text()]),
        "size": dice.choice(sizes),
        "num_inference_steps": dice.choice(steps),
        "guidance_scale": dice.choice([None, 0.0, 0.5, 1.0, 1.01, 4.0, 7.5, 50.0]),
        "seed": dice.choice([None, 0, MAX_SEED - 1, MAX_SEED]),
        "scheduler": dice.choice([None, *(name.value for name in NoiseScheduler)]),
        "clip_skip": dice.choice([None, None, 0, 1, 2, 3]),
        "loras": dice.choice([None, None, *(a_lora(dice) for _ in range(2))]),
        "control": dice.choice([None, None, a_control(dice)]),
        "output_format": dice.choice([None, "png", "webp", "jpeg"]),
        "output_compression": dice.choice([None, None, 0, 1, 50, 100]),
        "deadline_s": None,
    }
    return {name: value for name, value in asked.items() if value is not None}


def a_lora(dice: random.Random) -> list[dict[str, Any]]:
    names = dice.choice([["ink"], ["oil"], ["ink", "oil"], ["ink", "ink"], ["lost"]])
    scales = [0.0, 0.7, 1.0, -1.0, 10.0, -10.0, 11.0]
    return [{"name": name, "scale": dice.choice(scales)} for name in names]


def a_control(dice: random.Random) -> dict[str, Any]:
    return {
        "name": dice.choice(["edges", "edges", "lost"]),
        "scale": dice.choice([0.0, 0.5, 1.0, -10.0, 10.0]),
        "start": dice.choice([0.0, 0.0, 0.2, 0.9]),
        "end": dice.choice([1.0, 1.0, 0.1, 0.95]),
    }


def sampled(asked: JobRequest, dice: random.Random) -> SamplingParams:
    """With pixels of noise in place of all that is stored."""
    grain = np.random.default_rng(dice.randrange(2**32))
    shape = (asked.height, asked.width, 3)

    def pixels() -> NDArray[np.uint8]:
        return grain.integers(0, 256, shape, dtype=np.uint8)

    mask = None
    if asked.mask is not None:
        mask = np.zeros((asked.height, asked.width), np.uint8)
        mask[: asked.height // 2 + 1] = 255
    return asked.sampling(
        0,
        pixels() if asked.image else None,
        mask,
        pixels() if asked.control else None,
    )


def faults(asked: JobRequest, image: NDArray[np.uint8]) -> list[str]:
    """Of the picture, and of the files that a post-process replica makes of it."""
    if image.shape != (asked.height, asked.width, 3):
        return [f"drawn as {image.shape}: {asked}"]
    claim = Claim(uuid4(), uuid4(), uuid4(), uuid4(), index=0, attempt=1, request=asked)
    try:
        original = process(image, PostprocessTask.of(claim).spec).files[0]
    except Exception as error:  # noqa: BLE001 - every kind is a fault
        return [f"{type(error).__name__}: {error} {asked}"]
    with Image.open(io.BytesIO(original.data)) as file:
        told = (file.size, (file.format or "").lower())
    right = told == ((asked.width, asked.height), asked.output_format)
    return [] if right else [f"written as {told}: {asked}"]
