"""Stable Diffusion 3 and 3.5: two CLIP text encoders, perhaps a T5, a transformer and a VAE.

The reference is diffusers' ``StableDiffusion3Pipeline`` with its image-to-image and inpainting kin,
whose parts are used as they are.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusion3Pipeline
from torch import Tensor

from pipelines.diffusion.catalog import read_index
from pipelines.diffusion.families.base import TIMESTEPS_DEVICE
from pipelines.diffusion.families.rows import Row
from pipelines.diffusion.families.transformer import TransformerFamily
from pipelines.diffusion.pretrained import read_pipeline
from pipelines.diffusion.request import SamplingParams
from pipelines.diffusion.schedulers import make_scheduler
from pipelines.diffusion.trajectory import TextEmbedding

_T5 = ("text_encoder_3", "tokenizer_3")


class StableDiffusion3(TransformerFamily):
    """A loaded ``StableDiffusion3Pipeline``.

    A ``guidance_scale`` above 1 is classifier-free guidance by a second row, for the
    ``negative_prompt`` or the empty one. A folder without the T5 encoder (its index
    has no ``text_encoder_3``) draws with zeros for that part of the prompt, as in diffusers.

    Inpainting has diffusers' latents, but not its picture: ``StableDiffusion3InpaintPipeline``
    forgets the VAE's shift when it decodes, which discolours what the mask keeps.
    """

    @staticmethod
    def read(folder: Path, dtype: torch.dtype, without: Collection[str] = ()) -> Any:
        index = read_index(folder)
        # diffusers does without the T5 only where told so.
        absent = {part: None for part in _T5 if index.get(part, (None,))[0] is None}
        return read_pipeline(StableDiffusion3Pipeline, folder, dtype, without, **absent)

    @property
    def _patch_size(self) -> int:
        size: int = self.denoiser.config.patch_size
        return size

    def _embed(self, text: str, clip_skip: int) -> TextEmbedding:
        tokens, _, pooled, _ = self.pipeline.encode_prompt(
            text,
            None,
            None,
            device=self.device,
            do_classifier_free_guidance=False,
            clip_skip=clip_skip or None,
        )
        return TextEmbedding(tokens, pooled)

    def _scheduler(self, params: SamplingParams) -> Any:
        dynamic = self.pipeline.scheduler.config.get("use_dynamic_shifting")
        schedule = {"mu": self._mu(params)} if dynamic else {}
        return make_scheduler(
            params.scheduler,
            self.pipeline.scheduler,
            params.num_inference_steps,
            TIMESTEPS_DEVICE,
            **schedule,
        )

    def _forward(self, rows: Sequence[Row]) -> Sequence[Tensor]:
        output: Tensor = self.denoiser(
            hidden_states=torch.cat([row.trajectory.model_input for row in rows]),
            timestep=self._timesteps(rows),
            encoder_hidden_states=torch.cat([row.text.tokens for row in rows]),
            pooled_projections=self._pooled(rows),
            return_dict=False,
        )[0]
        return torch.split(output, 1)
