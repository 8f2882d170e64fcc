"""What Stable Diffusion and SDXL share: a UNet that reads a prompt by cross-attention."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline
from numpy.typing import NDArray
from torch import Tensor

from pipelines.diffusion.catalog import ModelDescription
from pipelines.diffusion.errors import ModelLoadError
from pipelines.diffusion.families.base import Family, first_sigma
from pipelines.diffusion.families.controlnet import ControlNets
from pipelines.diffusion.families.rows import Row
from pipelines.diffusion.pixels import mask_tensor, picture_tensor
from pipelines.diffusion.pretrained import read_pipeline
from pipelines.diffusion.request import SamplingParams
from pipelines.diffusion.trajectory import Conditioning, Trajectory, noised


class UNetFamily(Family):
    """A loaded pipeline around a ``UNet2DConditionModel``."""

    def __init__(self, pipeline: Any, description: ModelDescription) -> None:
        super().__init__(pipeline, description)
        self._controlnets = ControlNets(pipeline.unet)

    @staticmethod
    def read(folder: Path, dtype: torch.dtype, without: Collection[str] = ()) -> Any:
        """Raises ModelLoadError for a UNet that wants other channels than the latents, or these
        with a mask and the masked picture's latents.
        """
        pipeline = read_pipeline(DiffusionPipeline, folder, dtype, without)
        channels, latents = pipeline.unet.config.in_channels, pipeline.vae.config.latent_channels
        if channels not in (latents, 2 * latents + 1):
            raise ModelLoadError(
                f"{str(folder / 'unet' / 'config.json')!r} asks for {channels} channels; take a"
                f" model of {latents}, or of {2 * latents + 1} for inpainting."
            )
        return pipeline

    @property
    def denoiser(self) -> Any:
        return self.pipeline.unet

    @property
    def controlnet_names(self) -> tuple[str, ...]:
        return self._controlnets.names

    def add_controlnet(self, name: str, model: Any) -> None:
        """Requests can name it from now on; ``model`` is as ``read_controlnet`` gives it."""
        self._controlnets.add(name, model)

    def prepare(self, params: SamplingParams, conditioning: Conditioning) -> Trajectory:
        trajectory = super().prepare(params, conditioning)
        if params.control is not None:
            trajectory.control = self._controlnets.prepare(params.control)
        return trajectory

    def _is_guided(self, params: SamplingParams) -> bool:
        """A model distilled for guidance takes the scale as an input, not by a second row.

        arXiv:2210.03142.
        """
        return params.guidance_scale > 1 and not self._guidance_width

    def _start_from(
        self,
        image: NDArray[np.uint8],
        params: SamplingParams,
        trajectory: Trajectory,
        dtype: torch.dtype,
    ) -> None:
        if self.description.needs_mask and params.mask is not None:
            self._start_inpainting(image, params.mask, params, trajectory, dtype)
        else:
            super()._start_from(image, params, trajectory, dtype)

    def _start_inpainting(
        self,
        image: NDArray[np.uint8],
        mask: NDArray[np.uint8],
        params: SamplingParams,
        trajectory: Trajectory,
        dtype: torch.dtype,
    ) -> None:
        """For a UNet that is shown what is kept; what is drawn, and when, is diffusers'.

        At full strength nothing of the source is in the first latents, and it is not drawn.
        """
        scheduler, generator = trajectory.scheduler, trajectory.generator
        self._skip(params, trajectory)
        picture = picture_tensor(image)
        if params.strength == 1:
            noise = self._noise(params, generator, dtype)
            trajectory.latents = noise * first_sigma(scheduler)
        else:
            source = self.vae.encode(picture, generator).to(dtype)
            noise = self._noise(params, generator, dtype)
            trajectory.latents = noised(scheduler, source, noise, trajectory.timestep[None])
        kept = self.vae.encode(picture * (1 - mask_tensor(mask)), generator).to(dtype)
        hole = mask_tensor(mask, self.description.vae_scale_factor).to(kept)
        trajectory.model_channels = torch.cat([hole, kept], dim=1)

    def _forward(self, rows: Sequence[Row]) -> Sequence[Tensor]:
        timesteps = torch.stack([row.trajectory.timestep.float() for row in rows])
        timesteps = timesteps.to(self.device, non_blocking=True)
        text: dict[str, Any] = {
            "encoder_hidden_states": torch.cat([row.text.tokens for row in rows])
        }
        added = self._added_conditions(rows)
        if added:
            text["added_cond_kwargs"] = added
        output: Tensor = self.denoiser(
            torch.cat([row.trajectory.model_input for row in rows]),
            timesteps,
            timestep_cond=self._guidance_embedding(rows),
            return_dict=False,
            **text,
            **self._controlnets.residuals(rows, timesteps, text),
        )[0]
        return [output[i : i + 1] for i in range(len(rows))]

    def _added_conditions(self, rows: Sequence[Row]) -> dict[str, Tensor]:
        """What the UNet reads beside the prompt's tokens, each of (rows, ...)."""
        return {}

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
        return embedding.to(self.device, self.dtype, non_blocking=True)
