"""LoRAs in every family, alone against diffusers and in a mixed batch against themselves alone.

A family joins by a line in ``FAMILIES``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from pipelines.diffusion.families.base import Family
from pipelines.diffusion.loading import load_model
from pipelines.diffusion.request import LoraScale, SamplingParams
from tests.pipelines.diffusion.lora.lora_files import attention, matrices, save_peft
from tests.pipelines.diffusion.lora.lora_pictures import (
    assert_different,
    assert_same,
    draw,
    loras,
    reference,
)
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

FAMILIES: dict[str, Callable[[], Any]] = {
    "sd": stable_diffusion.build_pipeline,
    "sdxl": stable_diffusion_xl.build_pipeline,
    "sd3": stable_diffusion_3.build_pipeline,
    "sd3.5-medium": stable_diffusion_3.build_3_5_medium,
    "flux": flux.build_dev,
    "z-image": z_image.build_pipeline,
}


# What a forward pass of several sizes feeds row by row, or in one sequence for all rows.
ROWLESS = {"z-image": "embedder", "sd3": "pos_embed", "sd3.5-medium": "pos_embed"}


@dataclass(frozen=True, slots=True)
class Model:
    """A family with LoRAs of three ranks.

    ``attention`` is of the attention layers, ``everything`` of all layers, but for those whose
    input may not show the rows, which ``rowless`` is of.
    """

    name: str
    family: Family
    files: dict[str, Path]


@pytest.fixture(scope="module", params=FAMILIES)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder: Path = tmp_path_factory.mktemp(request.param)
    pipeline = FAMILIES[request.param]()
    pipeline.save_pretrained(folder / "model")
    mark = ROWLESS.get(request.param, "nothing")
    pairs = {
        "everything": matrices(pipeline, 1, take=lambda name: mark not in name),
        "attention": matrices(pipeline, 2, rank=3, take=attention),
        "rowless": matrices(pipeline, 3, rank=2, take=lambda name: mark in name),
    }
    files = {
        name: save_peft(folder / f"{name}.safetensors", each)
        for name, each in pairs.items()
        if each
    }
    family = load_model(folder / "model", "cpu", "float32", loras=files)
    assert isinstance(family, Family)
    return Model(request.param, family, files)


@pytest.mark.parametrize(
    "asked",
    [
        loras(everything=1.0),
        loras(attention=-1.0),
        loras(everything=0.5, attention=1.0),
    ],
    ids=["one", "negative", "two"],
)
def test_same_as_diffusers(model: Model, params: Params, asked: tuple[LoraScale, ...]) -> None:
    plain = params(guidance_scale=4.0, num_inference_steps=2, seed=9)
    wanted = replace(plain, loras=asked)
    (ours,) = draw(model.family, wanted)
    assert_same(ours, reference(FAMILIES[model.name](), model.files, wanted))
    assert_different(ours, draw(model.family, plain)[0])


def test_eight_of_all_kinds_share_each_pass(model: Model, params: Params) -> None:
    """With both LoRAs, one, none; other scales; guided or not."""
    choices = [
        loras(everything=1.0),
        (),
        loras(attention=0.7, everything=-0.4),
        loras(attention=-1.0),
        loras(everything=0.3),
        (),
        loras(everything=1.0),
        loras(attention=0.7),
    ]
    asked = [
        params(
            prompt="a blue cat" if i % 3 else "a red fox",
            loras=choice,
            seed=i,
            num_inference_steps=1 + i % 3,
            guidance_scale=0.0 if i % 2 else 4.0,
        )
        for i, choice in enumerate(choices)
    ]
    together = draw(model.family, *asked)
    for each, ours in zip(asked, together, strict=True):
        assert_same(ours, draw(model.family, each)[0])


def test_what_shows_no_rows_is_drawn_apart(model: Model, params: Params) -> None:
    """Slower, as the pass is split until all rows take the same, but as exact."""
    if "rowless" not in model.files:
        pytest.skip("every layer of this family shows its rows")
    asked = [
        params(loras=loras(rowless=scale), seed=i, guidance_scale=4.0, width=width)
        for i, (scale, width) in enumerate([(1.0, 64), (-0.5, 48), (0.0, 64)])
    ]
    together = draw(model.family, *asked, in_one_pass=False)
    for each, ours in zip(asked, together, strict=True):
        assert_same(ours, draw(model.family, each)[0])
    assert_same(together[0], reference(FAMILIES[model.name](), model.files, asked[0]))
