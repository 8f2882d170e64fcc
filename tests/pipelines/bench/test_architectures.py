"""Published sizes, on the meta device: no weights are drawn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from pipelines.bench.architectures.table import build_pipeline, denoiser_of
from pipelines.bench.denoiser import RawForward
from pipelines.bench.plan import ArchitectureName
from pipelines.bench.subject import family_of
from tests.pipelines.diffusion.tiny import (
    flux,
    stable_diffusion,
    stable_diffusion_3,
    stable_diffusion_xl,
)

META = torch.device("meta")

# Millions of parameters: of the published checkpoints' denoisers and VAEs.
PUBLISHED = {
    ArchitectureName.SD15: (859.52, 83.65),
    ArchitectureName.SDXL: (2567.46, 83.65),
    ArchitectureName.SD3_MEDIUM: (2028.33, 83.82),
    ArchitectureName.FLUX_DEV: (11901.41, 83.82),
}


def millions(module: Any) -> float:
    count: int = sum(parameter.numel() for parameter in module.parameters())
    return count / 1e6


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_sizes(name: ArchitectureName) -> None:
    pipeline = build_pipeline(name, META, torch.bfloat16)
    assert millions(denoiser_of(pipeline)) == pytest.approx(PUBLISHED[name][0], abs=0.01)
    assert millions(pipeline.vae) == pytest.approx(PUBLISHED[name][1], abs=0.01)
    assert denoiser_of(pipeline).dtype == torch.bfloat16
    assert torch.get_default_dtype() == torch.float32


def test_small_is_a_step_of_2_6_gflop_a_row() -> None:
    unet = build_pipeline(ArchitectureName.SMALL, META, torch.float32).unet
    inputs = torch.empty(1, 4, 32, 32), torch.empty(1), torch.empty(1, 77, 192)
    assert RawForward(unet, [(inputs, {})]).flops() == pytest.approx(2.6e9, rel=0.02)


@pytest.mark.parametrize(
    "build",
    [
        stable_diffusion.build_pipeline,
        stable_diffusion_xl.build_pipeline,
        stable_diffusion_3.build_pipeline,
        flux.build_dev,
    ],
)
def test_a_family_over_a_pipeline_in_memory(build: Callable[[], Any]) -> None:
    pipeline = build()
    family = family_of(pipeline)
    assert family.pipeline is pipeline
    assert family.denoiser is denoiser_of(pipeline)
    assert family.description.class_name == type(pipeline).__name__
