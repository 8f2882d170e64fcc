"""A real Stable Diffusion pipeline with random weights, small enough to draw in milliseconds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from pipelines.diffusion.engine import DiffusionEngine
from pipelines.diffusion.families.stable_diffusion import StableDiffusion, load
from pipelines.diffusion.request import Output, Request, SamplingParams

_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def build_pipeline(**unet: Any) -> StableDiffusionPipeline:
    """Pictures of 64x64 by default; ``unet`` overrides the UNet's configuration."""
    torch.manual_seed(7)
    vocabulary = {"<|startoftext|>": 0, "<|endoftext|>": 1}
    for token in [*_LETTERS, *(f"{letter}</w>" for letter in _LETTERS)]:
        vocabulary[token] = len(vocabulary)
    configuration: dict[str, Any] = {
        "sample_size": 16,
        "in_channels": 4,
        "out_channels": 4,
        "layers_per_block": 1,
        "block_out_channels": (8, 16),
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "cross_attention_dim": 16,
        "attention_head_dim": 4,
        "norm_num_groups": 4,
    }
    return StableDiffusionPipeline(
        tokenizer=CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=16),
        text_encoder=CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(vocabulary),
                hidden_size=16,
                intermediate_size=32,
                num_hidden_layers=2,
                num_attention_heads=2,
                max_position_embeddings=16,
                bos_token_id=0,
                eos_token_id=1,
                pad_token_id=1,
            )
        ).eval(),
        unet=UNet2DConditionModel(**configuration | unet).eval(),
        vae=AutoencoderKL(
            block_out_channels=(8, 8, 16),
            down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3,
            latent_channels=4,
            norm_num_groups=4,
            layers_per_block=1,
            sample_size=64,
        ).eval(),
        scheduler=DDIMScheduler(
            beta_schedule="scaled_linear",
            beta_start=0.00085,
            beta_end=0.012,
            clip_sample=False,
            set_alpha_to_one=False,
            steps_offset=1,
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    build_pipeline().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def shared_family(model_folder: Path) -> StableDiffusion:
    return load(model_folder, torch.device("cpu"), torch.float32)


@pytest.fixture
def family(shared_family: StableDiffusion) -> StableDiffusion:
    """Its methods may be replaced for a test: the weights are shared, the object is not."""
    return StableDiffusion(shared_family.pipeline, shared_family.description)


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., StableDiffusion]:
    """Makes a family of a pipeline whose UNet's configuration is overridden."""

    def build_family(**unet: Any) -> StableDiffusion:
        build_pipeline(**unet).save_pretrained(tmp_path / "built")
        return load(tmp_path / "built", torch.device("cpu"), torch.float32)

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
