"""Stable Diffusion XL (arXiv:2307.01952): two text encoders, and a UNet that is told the size.

Base, Turbo, Lightning and the refiner. The reference is diffusers' ``StableDiffusionXLPipeline``
(for the refiner its image-to-image one), whose parts are used as they are.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipelines.diffusion.families.rows import Row
from pipelines.diffusion.families.unet import UNetFamily
from pipelines.diffusion.request import SamplingParams
from pipelines.diffusion.trajectory import TextEmbedding

# diffusers' defaults for the refiner, of a picture to be liked and of one to be disliked.
_AESTHETIC_SCORE = 6.0
_NEGATIVE_AESTHETIC_SCORE = 2.5


class StableDiffusionXL(UNetFamily):
    """A loaded ``StableDiffusionXLPipeline``, or the one for image-to-image or inpainting."""

    @staticmethod
    def read(folder: Path, dtype: torch.dtype, without: Collection[str] = ()) -> Any:
        pipeline = UNetFamily.read(folder, dtype, without)
        if dtype is torch.float16 and pipeline.vae.config.force_upcast:
            pipeline.vae.to(torch.float32)  # it overflows in float16
        return pipeline

    def _embed(self, text: str, clip_skip: int) -> TextEmbedding:
        tokens, _, pooled, _ = self.pipeline.encode_prompt(
            text,
            device=self.device,
            do_classifier_free_guidance=False,
            clip_skip=clip_skip or None,
        )
        return TextEmbedding(tokens, pooled)

    def _negative_embedding(self, params: SamplingParams) -> TextEmbedding:
        """Most of these models were trained to read zeros where there is no prompt."""
        if params.negative_prompt or not self.pipeline.config.force_zeros_for_empty_prompt:
            return super()._negative_embedding(params)
        return self._no_prompt

    @cached_property
    def _no_prompt(self) -> TextEmbedding:
        empty = self._embed("", clip_skip=0)
        assert empty.pooled is not None  # noqa: S101 - these models all have one
        return TextEmbedding(torch.zeros_like(empty.tokens), torch.zeros_like(empty.pooled))

    def _added_conditions(self, rows: Sequence[Row]) -> dict[str, Tensor]:
        ids = [self._time_ids(row) for row in rows]
        return {
            "text_embeds": torch.cat(
                [row.text.pooled for row in rows if row.text.pooled is not None]
            ),
            "time_ids": torch.tensor(ids, dtype=rows[0].text.tokens.dtype).to(
                self.device, non_blocking=True
            ),
        }

    def _time_ids(self, row: Row) -> tuple[float, ...]:
        """Original size, crop and target size; all of the request's own picture, uncropped."""
        size = tuple(
            side * self.description.vae_scale_factor for side in row.trajectory.latents.shape[-2:]
        )
        if self.pipeline.config.get("requires_aesthetics_score"):
            score = _NEGATIVE_AESTHETIC_SCORE if row.unconditional else _AESTHETIC_SCORE
            return (*size, 0, 0, score)
        return (*size, 0, 0, *size)
