"""Layers of the CLIP text encoders that are left out: the reference is diffusers' pipelines."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from pipelines.diffusion.engine import DiffusionEngine
from pipelines.diffusion.families.base import Family
from pipelines.diffusion.loading import load_model
from pipelines.diffusion.request import Failure, Output, Request, SamplingParams
from tests.pipelines.diffusion.families.test_parity import TOLERANCE
from tests.pipelines.diffusion.reference import draw_by
from tests.pipelines.diffusion.tiny import (
    flux,
    stable_diffusion,
    stable_diffusion_3,
    stable_diffusion_xl,
    z_image,
)

# diffusers 0.42 has not caught up with NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")

Params = Callable[..., SamplingParams]
Run = Callable[..., list[Output]]

MOST: dict[str, tuple[Callable[[], Any], int]] = {
    "sd": (stable_diffusion.build_pipeline, 2),
    "xl": (stable_diffusion_xl.build_pipeline, 1),
    "sd3": (stable_diffusion_3.build_pipeline, 1),
    "sd3-without-t5": (partial(stable_diffusion_3.build_pipeline, t5=False), 1),
    "flux": (flux.build_dev, 0),
    "z-image": (z_image.build_pipeline, 0),
}
"""The tiny models, and how many of their two layers can be left out."""


@pytest.fixture(scope="module")
def families(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Family]:
    loaded = {}
    for name, (build, _) in MOST.items():
        folder: Path = tmp_path_factory.mktemp(name)
        build().save_pretrained(folder)
        family = load_model(folder, "cpu", "float32")
        assert isinstance(family, Family)
        loaded[name] = family
    return loaded


@pytest.mark.parametrize(
    ("name", "clip_skip"), [(name, n) for name, (_, most) in MOST.items() for n in range(most + 1)]
)
def test_same_as_diffusers(
    families: dict[str, Family],
    params: Params,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    clip_skip: int,
) -> None:
    family, drawn = families[name], []
    decode = family.decode

    def keep(latents: torch.Tensor) -> torch.Tensor:
        drawn.append(decode(latents))
        return drawn[-1]

    monkeypatch.setattr(family, "decode", keep)
    asked = params(clip_skip=clip_skip, negative_prompt="blue", num_inference_steps=3)
    other = params(clip_skip=0, negative_prompt="blue", num_inference_steps=3)
    engine = DiffusionEngine(family)  # one cache of prompts for both
    run(engine, Request("other", other))
    run(engine, Request("asked", asked))

    named = {"clip_skip": clip_skip} if MOST[name][1] else {}
    guidance: dict[str, Any] = {"guidance_scale": asked.guidance_scale}
    if name != "flux":
        guidance["negative_prompt"] = asked.negative_prompt
    if name == "sd":  # diffusers 0.42 knows transformers 4
        encoder = type(family.pipeline.text_encoder)
        monkeypatch.setattr(encoder, "text_model", property(lambda self: self), raising=False)
    _, theirs = draw_by(family.pipeline, asked, **guidance, **named)
    torch.testing.assert_close(drawn[1], theirs, atol=TOLERANCE, rtol=0)
    assert torch.allclose(drawn[0], drawn[1], atol=TOLERANCE) == (clip_skip == 0)


@pytest.mark.parametrize("name", MOST)
@pytest.mark.parametrize("beyond", [1, -9])
def test_no_further_than_the_first_layer(
    families: dict[str, Family], params: Params, run: Run, name: str, beyond: int
) -> None:
    family, most = families[name], MOST[name][1]
    assert family.description.max_clip_skip == most
    asked = Request("asked", params(clip_skip=most + beyond))

    (told,) = run(DiffusionEngine(family), asked)

    reason = f"clip_skip must be from 0 to {most} for" if most else "clip_skip is for models that"
    assert isinstance(told, Failure)
    assert told.reason.startswith(reason)
