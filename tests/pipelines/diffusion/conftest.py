"""A real Stable Diffusion pipeline with random weights, small enough to draw in milliseconds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from pipelines.diffusion.catalog import describe
from pipelines.diffusion.engine import DiffusionEngine
from pipelines.diffusion.families.stable_diffusion import StableDiffusion
from pipelines.diffusion.request import Output, Request, SamplingParams
from tests.pipelines.diffusion.tiny.stable_diffusion import build_pipeline


def load_plain(folder: Path, dtype: torch.dtype = torch.float32) -> StableDiffusion:
    """On the CPU, without a speed-up."""
    return StableDiffusion(StableDiffusion.read(folder, dtype), describe(folder))


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    build_pipeline().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def shared_family(model_folder: Path) -> StableDiffusion:
    return load_plain(model_folder)


@pytest.fixture
def family(shared_family: StableDiffusion) -> StableDiffusion:
    """Its methods may be replaced for a test: the weights are shared, the object is not."""
    return StableDiffusion(shared_family.pipeline, shared_family.description)


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., StableDiffusion]:
    """Makes a family of a pipeline whose UNet's configuration is overridden."""

    def build_family(**unet: Any) -> StableDiffusion:
        build_pipeline(**unet).save_pretrained(tmp_path / "built")
        return load_plain(tmp_path / "built")

    return build_family


@pytest.fixture(scope="session")
def params() -> Callable[..., SamplingParams]:
    """Makes sampling parameters; what is not given is plain."""
    plain = SamplingParams(
        prompt="a red fox",
        width=64,
        height=64,
        num_inference_steps=4,
        guidance_scale=5.0,
        seed=1,
    )
    return partial(replace, plain)


@pytest.fixture(scope="session")
def run() -> Callable[..., list[Output]]:
    """Adds requests, and steps until the engine has no more work."""

    def run_engine(engine: DiffusionEngine, *requests: Request) -> list[Output]:
        for request in requests:
            engine.add(request)
        outputs = []
        while engine.has_work:
            outputs += engine.step()
        return outputs

    return run_engine


@pytest.fixture
def pictures(family: StableDiffusion, monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """Every picture that the family decodes, in order, before it is rounded to bytes."""
    decoded: list[torch.Tensor] = []
    decode = family.decode

    def spy(latents: torch.Tensor) -> torch.Tensor:
        picture = decode(latents)
        decoded.append(picture)
        return picture

    monkeypatch.setattr(family, "decode", spy)
    return decoded
