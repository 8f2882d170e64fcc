"""Stable Diffusion 1.x and 2.x: a CLIP text encoder, a UNet and a VAE.

The reference is diffusers' ``StableDiffusionPipeline``, whose parts are used as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline
from torch import Tensor

from pipelines.diffusion.catalog import describe
from pipelines.diffusion.errors import RequestError
from pipelines.diffusion.families.latent import LatentFamily
from pipelines.diffusion.families.rows import Row
from pipelines.diffusion.request import SamplingParams
from pipelines.diffusion.trajectory import TextEmbedding


def load(folder: Path, device: torch.device, dtype: torch.dtype) -> StableDiffusion:
    """Loads a diffusers folder; only safetensors are read."""
    pipeline = StableDiffusionPipeline.from_pretrained(
        folder, dtype=dtype, use_safetensors=True, local_files_only=True
    )
    return StableDiffusion(pipeline.to(device), describe(folder))


class StableDiffusion(LatentFamily):
    """A loaded ``StableDiffusionPipeline``."""

    @property
    def denoiser(self) -> Any:
        return self.pipeline.unet

    def decode(self, latents: Tensor) -> Tensor:
        """As every family, or RequestError where the model's safety checker refuses the picture."""
        decoded, unsafe = self.pipeline.run_safety_checker(
            self.vae.decode(latents), self.device, self.dtype
        )
        if unsafe is not None and any(unsafe):
            raise RequestError("The model's safety checker refused the picture.")
        picture: Tensor = (decoded.float() * 0.5 + 0.5).clamp(0, 1)
        return picture

    def _embed(self, text: str) -> TextEmbedding:
        return TextEmbedding(self.pipeline.encode_prompt(text, self.device, 1, False)[0])

    def _is_guided(self, params: SamplingParams) -> bool:
        """A model distilled for guidance takes the scale as an input, not by a second row.

        arXiv:2210.03142.
        """
        return params.guidance_scale > 1 and not self._guidance_width

    def _forward(self, rows: Sequence[Row]) -> Sequence[Tensor]:
        output: Tensor = self.pipeline.unet(
            torch.cat([row.trajectory.model_input for row in rows]),
            torch.stack([row.trajectory.timestep.float() for row in rows]).to(self.device),
            encoder_hidden_states=torch.cat([row.text.tokens for row in rows]),
            timestep_cond=self._guidance_embedding(rows),
            return_dict=False,
        )[0]
        return [output[i : i + 1] for i in range(len(rows))]

    @property
    def _guidance_width(self) -> int:
        return self.pipeline.unet.config.time_cond_proj_dim or 0

    def _guidance_embedding(self, rows: Sequence[Row]) -> Tensor | None:
        if not self._guidance_width:
            return None
        scales = torch.tensor([row.trajectory.conditioning.guidance_scale - 1 for row in rows])
        embedding: Tensor = self.pipeline.get_guidance_scale_embedding(
            scales, embedding_dim=self._guidance_width
        )
        return embedding.to(self.device, self.dtype)
