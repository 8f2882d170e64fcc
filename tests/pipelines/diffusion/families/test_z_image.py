"""Z-Image against diffusers' own pipelines, alone and among others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    DiffusionPipeline,
    ZImageImg2ImgPipeline,
    ZImageInpaintPipeline,
    ZImagePipeline,
)
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from pipelines.diffusion.catalog import describe
from pipelines.diffusion.engine import DiffusionEngine
from pipelines.diffusion.families.z_image import ZImage
from pipelines.diffusion.request import NoiseScheduler, Output, Request, SamplingParams
from tests.pipelines.diffusion.reference import draw_by
from tests.pipelines.diffusion.tiny.z_image import build_pipeline

TOLERANCE = 1e-4  # of colours from 0 to 1, and of latents

Params = Callable[..., SamplingParams]
Run = Callable[..., list[Output]]


@pytest.fixture(scope="module", params=[False, True], ids=["static", "dynamic"])
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ZImage:
    """With timesteps shifted by a constant, as Z-Image-Turbo's are, and by the picture's size."""
    folder: Path = tmp_path_factory.mktemp("z-image")
    build_pipeline(dynamic_shifting=request.param).save_pretrained(folder)
    return ZImage(ZImage.read(folder, torch.float32), describe(folder))


@pytest.fixture
def drawn(loaded: ZImage, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Tensor, Tensor]]:
    """The last latents and the picture of each request, in the order of their ends."""
    seen: list[tuple[Tensor, Tensor]] = []
    decode = loaded.decode

    def keep(latents: Tensor) -> Tensor:
        picture = decode(latents)
        seen.append((latents, picture))
        return picture

    monkeypatch.setattr(loaded, "decode", keep)
    return seen


def picture(width: int, height: int) -> NDArray[np.uint8]:
    return np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8)


def left_half(width: int, height: int) -> NDArray[np.uint8]:
    mask = np.zeros((height, width), dtype=np.uint8)
    mask[:, : width // 2] = 255
    return mask


def reference(family: ZImage, asked: SamplingParams) -> tuple[Tensor, Tensor]:
    """Latents and picture by diffusers' pipeline for the task, over the same weights."""
    options: dict[str, Any] = {}
    pipeline_class: type[DiffusionPipeline] = ZImagePipeline
    if asked.image is not None:
        pipeline_class = ZImageImg2ImgPipeline
        options = {"image": Image.fromarray(asked.image), "strength": asked.strength}
    if asked.mask is not None:
        pipeline_class = ZImageInpaintPipeline
        options["mask_image"] = Image.fromarray(asked.mask)
    pipeline = pipeline_class(**family.pipeline.components)
    return draw_by(
        pipeline,
        asked,
        negative_prompt=asked.negative_prompt,
        guidance_scale=asked.guidance_scale,
        **options,
    )


def assert_same(ours: tuple[Tensor, Tensor], theirs: tuple[Tensor, Tensor]) -> None:
    torch.testing.assert_close(ours[0], theirs[0], atol=TOLERANCE, rtol=TOLERANCE)
    torch.testing.assert_close(ours[1], theirs[1], atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("scheduler", [NoiseScheduler.DEFAULT, NoiseScheduler.FLOW_MATCH_EULER])
@pytest.mark.parametrize("guidance_scale", [0.0, 0.5, 4.0])
def test_same_as_diffusers(
    loaded: ZImage,
    params: Params,
    run: Run,
    drawn: list[tuple[Tensor, Tensor]],
    scheduler: NoiseScheduler,
    guidance_scale: float,
) -> None:
    asked = params(
        guidance_scale=guidance_scale,
        negative_prompt="blue",
        scheduler=scheduler,
        width=48,
        height=72,
        num_inference_steps=6,
        seed=42,
    )
    run(DiffusionEngine(loaded), Request("alone", asked, preview_every=1))
    assert_same(drawn[0], reference(loaded, asked))


@pytest.mark.parametrize("strength", [0.35, 0.8, 1.0])
@pytest.mark.parametrize("masked", [False, True])
def test_same_as_diffusers_from_a_picture(
    loaded: ZImage,
    params: Params,
    run: Run,
    drawn: list[tuple[Tensor, Tensor]],
    strength: float,
    masked: bool,
) -> None:
    asked = params(
        image=picture(48, 72),
        mask=left_half(48, 72) if masked else None,
        strength=strength,
        width=48,
        height=72,
        num_inference_steps=7,
        guidance_scale=3.0,
        seed=11,
    )
    run(DiffusionEngine(loaded), Request("alone", asked))
    assert_same(drawn[0], reference(loaded, asked))


def test_prompts_of_any_length_share_a_batch(
    loaded: ZImage, params: Params, run: Run, drawn: list[tuple[Tensor, Tensor]]
) -> None:
    """Eight join one after the other; each draws what diffusers draws for it alone."""
    sizes = [(64, 64), (48, 72)]
    requests = []
    for i in range(8):
        width, height = sizes[i // 4]
        asked = params(
            prompt="fox " * (1 + 7 * i),
            negative_prompt="blue " * i,
            width=width,
            height=height,
            num_inference_steps=3 + i % 4,
            guidance_scale=0.0 if i % 3 == 2 else 2.0 + i,
            seed=i,
            image=picture(width, height) if i in (1, 6) else None,
            mask=left_half(width, height) if i == 6 else None,
        )
        requests.append(Request(str(i), asked))
    engine = DiffusionEngine(loaded, max_batch=8)
    outputs: list[Output] = []
    for request in requests:
        engine.add(request)
        outputs += engine.step()
    outputs += run(engine)
    finished = [output.request_id for output in outputs if hasattr(output, "image")]
    assert sorted(finished) == [request.id for request in requests]
    stats = engine.stats()
    assert stats.request_steps / stats.steps > 1.5
    for request in requests:
        ours = drawn[finished.index(request.id)]
        assert_same(ours, reference(loaded, request.params))


def test_the_prompt_and_its_neighbours_padding_are_seen(
    loaded: ZImage, params: Params, run: Run, drawn: list[tuple[Tensor, Tensor]]
) -> None:
    """The tiny model is no blind one: the tests above could fail."""
    for prompt in ("a red fox", "a red fox and much more than that " * 3):
        run(DiffusionEngine(loaded), Request("one", params(prompt=prompt, guidance_scale=4.0)))
    assert (drawn[0][0] - drawn[1][0]).abs().max() > 100 * TOLERANCE
