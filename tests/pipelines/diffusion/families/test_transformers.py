"""Stable Diffusion 3 and FLUX.1: the reference is diffusers' own pipelines, alone and mixed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from pipelines.diffusion.catalog import describe
from pipelines.diffusion.engine import DiffusionEngine
from pipelines.diffusion.families.transformer import TransformerFamily
from pipelines.diffusion.loading import load_model
from pipelines.diffusion.preview import predicted_original
from pipelines.diffusion.request import Failure, Output, Request, Result, SamplingParams
from pipelines.diffusion.trajectory import Trajectory
from tests.pipelines.diffusion.reference import draw_by
from tests.pipelines.diffusion.tiny import flux, stable_diffusion_3

# diffusers 0.42 has not caught up with NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")

TOLERANCE = 1e-4  # of colours from 0 to 1, and of latents

Params = Callable[..., SamplingParams]
Run = Callable[..., list[Output]]

MODELS: dict[str, Callable[[], Any]] = {
    "flux-dev": flux.build_dev,
    "flux-schnell": flux.build_schnell,
    "sd3": stable_diffusion_3.build_pipeline,
    "sd3-without-t5": lambda: stable_diffusion_3.build_pipeline(t5=False),
    "sd3.5-medium": stable_diffusion_3.build_3_5_medium,
}


@dataclass(slots=True)
class Model:
    """A tiny model, and the last latents and the picture of all that it decodes."""

    name: str
    family: TransformerFamily
    drawn: list[tuple[Tensor, Tensor]] = field(default_factory=list)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folders = {name: tmp_path_factory.mktemp(name) for name in MODELS}
    for name, build in MODELS.items():
        build().save_pretrained(folders[name])
    return folders


@pytest.fixture(scope="module")
def families(folders: dict[str, Path]) -> dict[str, Any]:
    return {name: load_model(folder, "cpu", "float32") for name, folder in folders.items()}


@pytest.fixture(params=MODELS)
def model(
    request: pytest.FixtureRequest, families: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> Model:
    model = Model(request.param, families[request.param])
    keep_drawn(model, monkeypatch)
    return model


def keep_drawn(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    decode = model.family.decode

    def keep(latents: Tensor) -> Tensor:
        picture = decode(latents)
        model.drawn.append((latents, picture))
        return picture

    monkeypatch.setattr(model.family, "decode", keep)


def source(width: int = 64, height: int = 64) -> NDArray[np.uint8]:
    return np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8)


def left_half(width: int = 64, height: int = 64) -> NDArray[np.uint8]:
    mask = np.zeros((height, width), dtype=np.uint8)
    mask[:, : width // 2] = 255
    return mask


def reference(model: Model, asked: SamplingParams) -> tuple[Tensor, Tensor]:
    """Latents and picture by diffusers' pipeline for the task, over the same weights."""
    task = "" if asked.image is None else "Img2Img" if asked.mask is None else "Inpaint"
    family = "Flux" if model.name.startswith("flux") else "StableDiffusion3"
    pipeline = getattr(diffusers, f"{family}{task}Pipeline")(**model.family.pipeline.components)
    options: dict[str, Any] = {"guidance_scale": asked.guidance_scale}
    if model.name == "flux-schnell" and asked.negative_prompt:
        options |= {
            "negative_prompt": asked.negative_prompt,
            "true_cfg_scale": asked.guidance_scale,
        }
    elif family == "StableDiffusion3":
        options["negative_prompt"] = asked.negative_prompt
    if asked.image is not None:
        options |= {"image": Image.fromarray(asked.image), "strength": asked.strength}
    if asked.mask is not None:
        options["mask_image"] = Image.fromarray(asked.mask)
    latents, picture = draw_by(pipeline, asked, **options)
    if family == "Flux":
        latents = pipeline._unpack_latents(
            latents, asked.height, asked.width, pipeline.vae_scale_factor
        )
    elif task == "Inpaint":  # diffusers forgets the shift here
        config = pipeline.vae.config
        unscaled = latents / config.scaling_factor + config.shift_factor
        with torch.inference_mode():
            decoded = pipeline.vae.decode(unscaled, return_dict=False)[0]
        picture = pipeline.image_processor.postprocess(decoded, output_type="pt")
    return latents, picture


def assert_same(got: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor]) -> None:
    for ours, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize(
    ("task", "guidance_scale", "negative_prompt"),
    [
        ({}, 0.0, "blue"),
        ({}, 5.0, ""),
        ({"width": 72, "height": 48}, 3.5, "blue"),
        ({"image": source(), "strength": 0.35}, 5.0, ""),
        ({"image": source(), "strength": 1.0}, 3.5, "blue"),
        ({"image": source(), "mask": left_half(), "strength": 0.6}, 3.5, "blue"),
        ({"image": source(), "mask": left_half(), "strength": 1.0}, 1.0, ""),
    ],
    ids=["text-0", "text-5", "text-72x48", "image-0.35", "image-1", "mask-0.6", "mask-1"],
)
def test_same_as_diffusers(
    model: Model,
    params: Params,
    run: Run,
    task: dict[str, Any],
    guidance_scale: float,
    negative_prompt: str,
) -> None:
    asked = params(
        guidance_scale=guidance_scale,
        negative_prompt=negative_prompt,
        num_inference_steps=5,
        seed=42,
        **task,
    )
    outputs = run(DiffusionEngine(model.family), Request("alone", asked))
    assert not [output for output in outputs if isinstance(output, Failure)]
    assert_same(model.drawn[0], reference(model, asked))


def test_strength_rounds_up(model: Model, params: Params, run: Run) -> None:
    """Unlike with a UNet, 1.75 of 5 steps are two."""
    asked = params(image=source(), strength=0.35, num_inference_steps=5)
    outputs = run(DiffusionEngine(model.family), Request("alone", asked))
    assert len(outputs) == 2 + 1


def mixed_requests(params: Params) -> list[Request]:
    """Seven of all tasks, three sizes, guided and not."""
    sizes = [(64, 64), (48, 64), (96, 32)]
    requests = []
    for i in range(7):
        width, height = sizes[i % 3]
        asked = params(
            prompt=f"picture {'abcdefg'[i]}",
            negative_prompt="blue" if i % 2 == 0 else "",
            width=width,
            height=height,
            num_inference_steps=2 + i % 4,
            guidance_scale=1.0 if i % 4 == 3 else 2.0 + i,
            seed=100 + i,
            image=source(width, height) if i >= 3 else None,
            mask=left_half(width, height) if i >= 5 else None,
            strength=0.75,
        )
        requests.append(Request(f"r{i}", asked))
    return requests


def test_sizes_take_turns(model: Model, params: Params, run: Run) -> None:
    requests = mixed_requests(params)
    for request in requests:
        run(DiffusionEngine(model.family), request)
    alone, model.drawn = model.drawn, []

    engine = DiffusionEngine(model.family, max_batch=7)
    outputs: list[Output] = []
    for request in requests[:3]:  # one joins before each step
        engine.add(request)
        outputs += engine.step()
    outputs += run(engine, *requests[3:])

    order = [output.request_id for output in outputs if isinstance(output, Result)]
    for request, expected in zip(requests, alone, strict=True):
        assert_same(model.drawn[order.index(request.id)], expected)


def test_rows_of_one_size_take_the_models_own_forward(
    model: Model, params: Params, run: Run
) -> None:
    calls: list[int] = []
    hook = model.family.denoiser.register_forward_pre_hook(
        lambda _, __, inputs: calls.append(len(inputs["hidden_states"])), with_kwargs=True
    )
    asked = [params(negative_prompt="blue", guidance_scale=scale) for scale in (1.0, 4.0)]
    run(DiffusionEngine(model.family), *(Request(str(i), each) for i, each in enumerate(asked)))
    hook.remove()
    doubled = model.name != "flux-dev"
    assert calls == [3 if doubled else 2] * 4


def test_the_last_preview_shows_the_picture(model: Model, params: Params, run: Run) -> None:
    """What the model has in mind at the last step is where that step leads."""
    family, seen = model.family, []
    denoise = family.denoise

    def keep(trajectories: list[Trajectory]) -> list[Tensor]:
        predictions = denoise(trajectories)
        for each, prediction in zip(trajectories, predictions, strict=True):
            seen.append(
                predicted_original(each.scheduler, each.scaled_latents, prediction, each.timestep)
            )
        return predictions

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(family, "denoise", keep)
        run(DiffusionEngine(family), Request("one", params()))
    torch.testing.assert_close(seen[-1], model.drawn[0][0], atol=TOLERANCE, rtol=0)


def test_any_flow_match_scheduler(
    params: Params, run: Run, families: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder's own: Heun's evaluates the model twice a step."""
    model = Model("sd3", families["sd3"])
    heun = diffusers.FlowMatchHeunDiscreteScheduler(shift=3.0)
    monkeypatch.setattr(model.family.pipeline, "scheduler", heun)
    expected = reference(model, params(num_inference_steps=3))
    keep_drawn(model, monkeypatch)
    run(DiffusionEngine(model.family), Request("one", params(num_inference_steps=3)))
    assert_same(model.drawn[0], expected)


@pytest.mark.parametrize("name", ["sd3", "flux-dev"])
def test_dynamic_shifting(
    name: str, params: Params, run: Run, families: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The larger the picture, the longer it stays noisy."""
    family = families[name]
    config = family.pipeline.scheduler.config | flux.DEV
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler.from_config(config)
    monkeypatch.setattr(family.pipeline, "scheduler", scheduler)
    middle = []
    for size in (64, 96):
        asked = params(width=size, height=size)
        trajectory = family.prepare(asked, family.encode(asked))
        middle.append(float(trajectory.scheduler.timesteps[2]))
        latents, _ = reference(Model(name, family), asked)
        while not trajectory.finished:
            with torch.inference_mode():
                trajectory.advance(family.denoise([trajectory])[0])
        torch.testing.assert_close(trajectory.latents, latents, atol=TOLERANCE, rtol=0)
    assert middle[0] < middle[1]


def test_too_large_for_the_positions(params: Params, run: Run, families: dict[str, Any]) -> None:
    outputs = run(DiffusionEngine(families["sd3"]), Request("large", params(width=200)))
    assert isinstance(outputs[0], Failure)
    assert "up to 192 pixels a side" in outputs[0].reason


def test_sizes(params: Params, run: Run, families: dict[str, Any]) -> None:
    """A token is two latents a side, eight pixels here."""
    for family in families.values():
        outputs = run(DiffusionEngine(family), Request("odd", params(width=60)))
        assert isinstance(outputs[0], Failure)
        assert "multiples of 8" in outputs[0].reason


def test_describe(folders: dict[str, Path]) -> None:
    for name, folder in folders.items():
        description = describe(folder)
        assert description.size_multiple == 8
        # FLUX's configuration has no size, and its pipeline 128 latents.
        side = 512 if name.startswith("flux") else 64
        assert (description.default_width, description.default_height) == (side, side)
