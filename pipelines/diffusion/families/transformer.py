"""What the families share whose denoiser is a transformer trained by flow matching."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from diffusers.pipelines.flux.pipeline_flux import calculate_shift
from torch import Tensor

from pipelines.diffusion.families.base import Family
from pipelines.diffusion.families.rows import Row
from pipelines.diffusion.request import SamplingParams


class TransformerFamily(Family):
    """A loaded pipeline around a transformer, whose timesteps may shift with the picture's size."""

    @property
    def denoiser(self) -> Any:
        return self.pipeline.transformer

    @property
    @abstractmethod
    def _patch_size(self) -> int:
        """The latents that a token covers along a side."""

    def _mu(self, params: SamplingParams) -> float:
        """How far to shift the timesteps of so large a picture: arXiv:2403.03206, section 5.3.2."""
        config = self.pipeline.scheduler.config
        side = self.description.vae_scale_factor * self._patch_size
        mu: float = calculate_shift(
            (params.height // side) * (params.width // side),
            config.get("base_image_seq_len", 256),
            config.get("max_image_seq_len", 4096),
            config.get("base_shift", 0.5),
            config.get("max_shift", 1.15),
        )
        return mu

    def _timesteps(self, rows: Sequence[Row]) -> Tensor:
        """(rows,), from 0 to the number of training timesteps."""
        timesteps = torch.stack([row.trajectory.timestep.float() for row in rows])
        return timesteps.to(self.device, non_blocking=True)

    @staticmethod
    def _pooled(rows: Sequence[Row]) -> Tensor:
        """(rows, width); these models all have a pooled embedding of the prompt."""
        return torch.cat([row.text.pooled for row in rows if row.text.pooled is not None])
