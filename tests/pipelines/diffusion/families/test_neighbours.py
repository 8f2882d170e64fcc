"""What a request draws does not depend on who shares its batch; hypothesis draws the neighbours.

A family joins by a line in ``FAMILIES``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor

from pipelines.diffusion.catalog import ModelDescription
from pipelines.diffusion.engine import DiffusionEngine
from pipelines.diffusion.families.base import Family
from pipelines.diffusion.families.model import Model
from pipelines.diffusion.families.shared_call import SharedCall
from pipelines.diffusion.families.whole_call import WholeCall
from pipelines.diffusion.loading import load_model
from pipelines.diffusion.request import ControlImage, Failure, Request, Result, SamplingParams
from pipelines.diffusion.trajectory import Trajectory
from tests.pipelines.diffusion.families.kept_pictures import keep_pictures
from tests.pipelines.diffusion.tiny import (
    flux,
    perturbed_attention,
    stable_diffusion,
    stable_diffusion_3,
    stable_diffusion_xl,
    z_image,
)
from tests.pipelines.diffusion.tiny.controlnet import build_controlnet

# diffusers 0.42 has not caught up with NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")

TOLERANCE = 1e-4  # of colours from 0 to 1, and of latents


@dataclass(frozen=True, slots=True)
class Tiny:
    """How to build a family's tiny pipeline, and in what its requests may differ.

    ``sizes`` are (width, height) in pixels; ``sources`` is whether it starts from pictures;
    ``controlnets`` are built by name.
    """

    build: Callable[[], Any]
    sizes: tuple[tuple[int, int], ...] = ((64, 64), (64, 64), (48, 64))
    sources: bool = True
    controlnets: Mapping[str, Callable[[], Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A request that joins before the step ``joins``, and may be aborted ``stays`` steps later."""

    request: Request
    joins: int
    stays: int | None


MIXED_SIZES = ((64, 64), (48, 64), (32, 96), (72, 40))

FAMILIES = {
    "stable-diffusion": Tiny(
        stable_diffusion.build_pipeline,
        controlnets={
            "edges": partial(build_controlnet, stable_diffusion.UNET, seed=1),
            "depth": partial(build_controlnet, stable_diffusion.UNET, seed=2),
        },
    ),
    "stable-diffusion-inpainting": Tiny(
        partial(stable_diffusion.build_pipeline, in_channels=9, time_cond_proj_dim=8),
        controlnets={"edges": partial(build_controlnet, stable_diffusion.UNET, seed=1)},
    ),
    "stable-diffusion-xl": Tiny(
        stable_diffusion_xl.build_pipeline,
        controlnets={"edges": partial(build_controlnet, stable_diffusion_xl.UNET, seed=1)},
    ),
    "stable-diffusion-3.5": Tiny(stable_diffusion_3.build_3_5_medium, MIXED_SIZES),
    "flux-schnell": Tiny(flux.build_schnell, MIXED_SIZES),
    "z-image": Tiny(z_image.build_pipeline, sizes=((64, 64), (48, 72), (96, 64), (16, 16))),
    "whole-call": Tiny(perturbed_attention.build_pipeline, sources=False),
}


@pytest.fixture(scope="module", params=FAMILIES)
def tiny(request: pytest.FixtureRequest) -> Tiny:
    return FAMILIES[request.param]


@pytest.fixture(scope="module")
def loaded(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder: Path = tmp_path_factory.mktemp("tiny")
    tiny.build().save_pretrained(folder)
    for name, build in tiny.controlnets.items():
        build().save_pretrained(folder / "controlnets" / name)
    controlnets = {name: folder / "controlnets" / name for name in tiny.controlnets}
    return load_model(folder, device="cpu", dtype="float32", controlnets=controlnets)


@st.composite
def neighbours(draw: st.DrawFn, tiny: Tiny, model: ModelDescription) -> list[Neighbour]:
    """Eight requests that differ in all that a request can ask for."""
    return [
        Neighbour(
            Request(f"r{i}", draw(asked(tiny, model))),
            joins=draw(st.integers(0, 6)),
            stays=draw(st.none() | st.none() | st.integers(1, 4)),
        )
        for i in range(8)
    ]


@st.composite
def asked(draw: st.DrawFn, tiny: Tiny, model: ModelDescription) -> SamplingParams:
    width, height = draw(st.sampled_from(tiny.sizes))
    steps = draw(st.integers(1, 6))
    seed = draw(st.integers(0, 2**32))
    pixels = np.random.default_rng(seed)
    sourced = tiny.sources and (draw(st.booleans()) or model.needs_image)
    masked = sourced and (draw(st.booleans()) or model.needs_mask)
    controlnet = draw(st.sampled_from([None, *tiny.controlnets]))
    return SamplingParams(
        prompt=draw(st.text("abc ", max_size=12)),
        negative_prompt=draw(st.sampled_from(["", "blue"])),
        width=width,
        height=height,
        num_inference_steps=steps,
        guidance_scale=draw(st.sampled_from([0.0, 1.0, 2.5, 7.5])),
        seed=seed,
        scheduler=draw(st.sampled_from(model.schedulers)),
        image=pixels.integers(0, 256, (height, width, 3), np.uint8) if sourced else None,
        mask=pixels.integers(0, 256, (height, width), np.uint8) if masked else None,
        control=draw(controls(controlnet, width, height)) if controlnet else None,
        strength=draw(st.sampled_from([each for each in (0.4, 0.7, 1.0) if each * steps >= 1])),
    )


@st.composite
def controls(draw: st.DrawFn, controlnet: str, width: int, height: int) -> ControlImage:
    pixels = np.random.default_rng(draw(st.integers(0, 9)))
    start, end = draw(st.sampled_from([(0.0, 1.0), (0.0, 0.5), (0.3, 1.0)]))
    return ControlImage(
        controlnet,
        pixels.integers(0, 256, (height, width, 3), np.uint8),
        scale=draw(st.sampled_from([0.0, 0.5, 1.0])),
        start=start,
        end=end,
    )


@settings(
    max_examples=5,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(data=st.data())
def test_each_draws_as_if_alone(tiny: Tiny, loaded: Model, data: st.DataObject) -> None:
    with np.printoptions(threshold=1, edgeitems=1):  # a failing example is read by people
        together = data.draw(neighbours(tiny, loaded.description))
    alone = {
        each.request.id: draw(loaded, [Neighbour(each.request, joins=0, stays=None)])
        for each in together
    }
    drawn = draw(loaded, together)
    stayed = {each.request.id for each in together if each.stays is None}
    assert stayed <= set(drawn)
    for id_, (latents, picture) in drawn.items():
        expected_latents, expected_picture = alone[id_][id_]
        # Random weights blow the latents up to 70, where a float32 resolves no more than 1e-5.
        scale = max(1.0, float(expected_latents.std()))
        torch.testing.assert_close(latents, expected_latents, atol=TOLERANCE * scale, rtol=0)
        torch.testing.assert_close(picture, expected_picture, atol=TOLERANCE, rtol=0)


def draw(model: Model, together: list[Neighbour]) -> dict[str, tuple[Tensor, Tensor]]:
    """The last latents and the picture, before it is rounded, of each that was not aborted.

    A whole call shows no last latents: there the picture stands for both.
    """
    engine = DiffusionEngine(model, max_batch=8)
    order: list[str] = []
    step = 0
    with pytest.MonkeyPatch.context() as patch:
        if isinstance(model, WholeCall):
            pictures, latents = watch_calls(patch)
        else:
            pictures, latents = watch_steps(model, patch)
        while engine.has_work or step <= max(each.joins for each in together):
            for each in together:
                if each.joins == step:
                    engine.add(each.request)
                if each.stays is not None and each.joins + each.stays == step:
                    engine.abort(each.request.id)
            for output in engine.step():
                assert not isinstance(output, Failure), output
                if isinstance(output, Result):
                    order.append(output.request_id)
            step += 1
    return dict(zip(order, zip(latents, pictures, strict=True), strict=True))


def watch_steps(family: Family, patch: pytest.MonkeyPatch) -> tuple[list[Tensor], list[Tensor]]:
    """Pictures and latents as they end.

    The engine would halve a batch whose pass raised, and hide that it cannot be shared.
    """
    pictures: list[Tensor] = []
    last: list[Tensor] = []
    decode, denoise = family.decode, family.denoise

    def keep(latents: Tensor) -> Tensor:
        last.append(latents)
        pictures.append(decode(latents))
        return pictures[-1]

    def denoise_or_give_up(trajectories: Sequence[Trajectory]) -> list[Tensor]:
        try:
            return denoise(trajectories)
        except Exception as error:
            raise torch.AcceleratorError("No shared pass may raise here.") from error

    patch.setattr(family, "decode", keep)
    patch.setattr(family, "denoise", denoise_or_give_up)
    return pictures, last


def watch_calls(patch: pytest.MonkeyPatch) -> tuple[list[Tensor], list[Tensor]]:
    def give_up(_: SharedCall, error: Exception) -> NoReturn:
        raise torch.AcceleratorError("No call may raise here.") from error

    patch.setattr(SharedCall, "_give_up", give_up)
    pictures = keep_pictures(patch)
    return pictures, pictures
