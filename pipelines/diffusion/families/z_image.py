"""Z-Image (arXiv:2511.22699): a Qwen3 text encoder, a single-stream transformer and a VAE.

The reference is diffusers' ``ZImagePipeline`` with its image-to-image and inpainting kin, whose
parts are used as they are. Why not Qwen-Image: docs/decisions/0009-z-image.md.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from diffusers import ZImagePipeline
from diffusers.pipelines.z_image.pipeline_z_image import get_default_z_image_sigmas
from torch import Tensor

from pipelines.diffusion.families.base import TIMESTEPS_DEVICE
from pipelines.diffusion.families.rows import Row
from pipelines.diffusion.families.transformer import TransformerFamily
from pipelines.diffusion.pretrained import read_pipeline
from pipelines.diffusion.request import SamplingParams
from pipelines.diffusion.schedulers import make_scheduler
from pipelines.diffusion.trajectory import Conditioning, TextEmbedding

_TIMESTEPS = 1000  # what the pipeline divides by, whatever the noise scheduler's configuration says


class ZImage(TransformerFamily):
    """A loaded ``ZImagePipeline``.

    Any ``guidance_scale`` above 0 guides, as in the pipeline: 0 here is what 1 is elsewhere, so
    that distilled models such as Z-Image-Turbo are to be asked for with 0.
    """

    @staticmethod
    def read(folder: Path, dtype: torch.dtype, without: Collection[str] = ()) -> Any:
        return read_pipeline(ZImagePipeline, folder, dtype, without)

    def encode(self, params: SamplingParams) -> Conditioning:
        """The pipeline's e_c + w (e_c - e_u) is e_u + (w + 1) (e_c - e_u), as ``guide`` has it."""
        conditioning = super().encode(params)
        return replace(conditioning, guidance_scale=params.guidance_scale + 1)

    @property
    def fixed_prompt_length(self) -> bool:
        """The transformer takes captions as long as they are; padding is a token of its own."""
        return False

    @property
    def _patch_size(self) -> int:
        return 2

    def _embed(self, text: str, clip_skip: int) -> TextEmbedding:
        (tokens,), _ = self.pipeline.encode_prompt(text, self.device, False)
        return TextEmbedding(tokens[None])

    def _is_guided(self, params: SamplingParams) -> bool:
        return params.guidance_scale > 0

    def _latents_dtype(self, conditioning: Conditioning) -> torch.dtype:
        return torch.float32

    def _scheduler(self, params: SamplingParams) -> Any:
        steps = params.num_inference_steps
        return make_scheduler(
            params.scheduler,
            self.pipeline.scheduler,
            steps,
            TIMESTEPS_DEVICE,
            sigmas=get_default_z_image_sigmas(steps),
            mu=self._mu(params),
        )

    def _forward(self, rows: Sequence[Row]) -> Sequence[Tensor]:
        """The transformer points from noise to picture, diffusers' schedulers the other way."""
        outputs = self.denoiser(
            [row.trajectory.model_input[0, :, None].to(self.dtype) for row in rows],
            (_TIMESTEPS - self._timesteps(rows)) / _TIMESTEPS,
            [row.text.tokens[0] for row in rows],
            return_dict=False,
        )[0]
        return [-output.float()[None, :, 0] for output in outputs]
