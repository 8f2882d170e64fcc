"""FLUX.1 dev and schnell: CLIP and T5 text encoders, a transformer and a VAE.

The reference is diffusers' ``FluxPipeline`` with its image-to-image and inpainting kin, whose
parts are used as they are.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import FluxPipeline
from torch import Tensor
from torch.nn import functional

from pipelines.diffusion.families.base import TIMESTEPS_DEVICE
from pipelines.diffusion.families.rows import Row
from pipelines.diffusion.families.transformer import TransformerFamily
from pipelines.diffusion.pretrained import read_pipeline
from pipelines.diffusion.request import SamplingParams
from pipelines.diffusion.schedulers import make_scheduler
from pipelines.diffusion.trajectory import TextEmbedding


class Flux(TransformerFamily):
    """A loaded ``FluxPipeline``.

    What guidance is depends on the model, as in diffusers:

    - Distilled for guidance (dev): ``guidance_scale`` is an input of the model, at no cost and at
      any value. ``negative_prompt`` has no effect, as it has none in diffusers unless a second
      scale is given.
    - Any other (schnell): without a ``negative_prompt`` there is no guidance, whatever
      ``guidance_scale`` says. With one, ``guidance_scale`` above 1 is what diffusers calls
      ``true_cfg_scale``: classifier-free guidance by a second row.
    """

    @staticmethod
    def read(folder: Path, dtype: torch.dtype, without: Collection[str] = ()) -> Any:
        return read_pipeline(FluxPipeline, folder, dtype, without)

    @property
    def _patch_size(self) -> int:
        return 2  # of the pipeline: the transformer's configuration counts patches as channels

    @property
    def _takes_guidance(self) -> bool:
        takes: bool = self.denoiser.config.guidance_embeds
        return takes

    def _embed(self, text: str, clip_skip: int) -> TextEmbedding:
        tokens, pooled, _ = self.pipeline.encode_prompt(text, device=self.device)
        return TextEmbedding(tokens, pooled)

    def _is_guided(self, params: SamplingParams) -> bool:
        negative = not self._takes_guidance and params.negative_prompt != ""
        return negative and params.guidance_scale > 1

    def _scheduler(self, params: SamplingParams) -> Any:
        steps = params.num_inference_steps
        return make_scheduler(
            params.scheduler,
            self.pipeline.scheduler,
            steps,
            TIMESTEPS_DEVICE,
            sigmas=np.linspace(1.0, 1 / steps, steps),
            mu=self._mu(params),
        )

    def _forward(self, rows: Sequence[Row]) -> Sequence[Tensor]:
        latents = torch.cat([row.trajectory.model_input for row in rows])
        text = torch.cat([row.text.tokens for row in rows])
        scales = torch.tensor([row.trajectory.conditioning.guidance_scale for row in rows])
        scales = scales.to(self.device, non_blocking=True)
        output: Tensor = self.denoiser(
            hidden_states=_patches(latents),
            img_ids=_positions(latents),
            encoder_hidden_states=text,
            txt_ids=text.new_zeros(text.shape[1], 3),
            pooled_projections=self._pooled(rows),
            timestep=self._timesteps(rows).to(latents.dtype) / 1000,
            guidance=scales if self._takes_guidance else None,
            return_dict=False,
        )[0]
        return torch.split(_latents(output, latents), 1)


def _patches(latents: Tensor) -> Tensor:
    """(rows, channels, height, width) to the tokens, (rows, height width / 4, 4 channels)."""
    return functional.pixel_unshuffle(latents, 2).flatten(2).transpose(1, 2)


def _latents(patches: Tensor, like: Tensor) -> Tensor:
    """``_patches`` undone, for latents of the height and width of ``like``."""
    height, width = like.shape[-2:]
    grid = torch.unflatten(patches.transpose(1, 2), 2, (height // 2, width // 2))
    return functional.pixel_shuffle(grid, 2)


def _positions(latents: Tensor) -> Tensor:
    """(tokens, 3): zero, then each token's row and column."""
    height, width = latents.shape[-2] // 2, latents.shape[-1] // 2
    grid = torch.cartesian_prod(torch.arange(height), torch.arange(width))
    return functional.pad(grid, (1, 0)).to(latents, non_blocking=True)
