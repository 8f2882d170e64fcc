"""Stable Diffusion 1.x and 2.x: a CLIP text encoder, a UNet and a VAE.

The reference is diffusers' ``StableDiffusionPipeline``, whose parts are used as they are.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from diffusers.utils.torch_utils import randn_tensor
from numpy.typing import NDArray
from torch import Tensor

from pipelines.diffusion.catalog import ModelDescription, describe
from pipelines.diffusion.errors import RequestError
from pipelines.diffusion.preview import PreviewMap, predicted_original
from pipelines.diffusion.request import SamplingParams
from pipelines.diffusion.schedulers import make_scheduler
from pipelines.diffusion.trajectory import Conditioning, Trajectory

_CACHED_PROMPTS = 64


def load(folder: Path, device: torch.device, dtype: torch.dtype) -> StableDiffusion:
    """Loads a diffusers folder; only safetensors are read."""
    pipeline = StableDiffusionPipeline.from_pretrained(
        folder, dtype=dtype, use_safetensors=True, local_files_only=True
    )
    return StableDiffusion(pipeline.to(device), describe(folder))


class StableDiffusion:
    """A loaded ``StableDiffusionPipeline`` in the shape of ``Family``."""

    def __init__(self, pipeline: Any, description: ModelDescription) -> None:
        """``pipeline`` is on its device and in its dtype already."""
        self.pipeline = pipeline
        self.description = description
        self._embeddings: OrderedDict[str, Tensor] = OrderedDict()
        with torch.inference_mode():
            self._preview_map = PreviewMap.fit(self._latents_of, description.vae_scale_factor)

    @property
    def device(self) -> torch.device:
        device: torch.device = self.pipeline.unet.device
        return device

    @property
    def dtype(self) -> torch.dtype:
        dtype: torch.dtype = self.pipeline.unet.dtype
        return dtype

    def batch_key(self, params: SamplingParams) -> Hashable:
        """The latents' (height, width): convolutions and group norm force it, and nothing else."""
        factor = self.description.vae_scale_factor
        return params.height // factor, params.width // factor

    def encode(self, params: SamplingParams) -> Conditioning:
        """Embeddings of (1, tokens, width), as the pipeline's ``encode_prompt`` makes them.

        A model that was distilled for guidance takes the scale as an input instead of a second
        row (arXiv:2210.03142).
        """
        guided = params.guidance_scale > 1 and not self._guidance_embedding_width
        return Conditioning(
            prompt_embeds=self._embed(params.prompt),
            negative_prompt_embeds=self._embed(params.negative_prompt) if guided else None,
            guidance_scale=params.guidance_scale,
        )

    def prepare(self, params: SamplingParams, conditioning: Conditioning) -> Trajectory:
        """Noise drawn on the CPU, as diffusers does: one seed, one picture on any device."""
        self._check(params)
        scheduler = make_scheduler(
            params.scheduler, self.pipeline.scheduler, params.num_inference_steps, self.device
        )
        generator = torch.Generator("cpu").manual_seed(params.seed)
        factor = self.description.vae_scale_factor
        noise = randn_tensor(
            (
                1,
                self.pipeline.unet.config.in_channels,
                params.height // factor,
                params.width // factor,
            ),
            generator=generator,
            device=self.device,
            dtype=conditioning.prompt_embeds.dtype,
        )
        return Trajectory(
            conditioning=conditioning,
            latents=noise * scheduler.init_noise_sigma,
            scheduler=scheduler,
            generator=generator,
            steps=params.num_inference_steps,
        )

    def denoise(self, trajectories: Sequence[Trajectory]) -> Tensor:
        """One UNet pass: a row for each, then an unconditional row for each that is guided.

        Classifier-free guidance, arXiv:2207.12598: e = e_u + w (e_c - e_u), with a w of its own
        for each row.
        """
        guided = [i for i, row in enumerate(trajectories) if _negative(row) is not None]
        inputs = torch.cat([row.model_input for row in trajectories])
        timesteps = torch.stack([row.timestep.float() for row in trajectories])
        embeds = [row.conditioning.prompt_embeds for row in trajectories]
        embeds += [e for row in trajectories if (e := _negative(row)) is not None]
        output: Tensor = self.pipeline.unet(
            torch.cat([inputs, inputs[guided]]),
            torch.cat([timesteps, timesteps[guided]]).to(self.device),
            encoder_hidden_states=torch.cat(embeds),
            timestep_cond=self._guidance_embedding(trajectories),
            return_dict=False,
        )[0]
        prediction, unconditional = output[: len(trajectories)], output[len(trajectories) :]
        if guided:
            scales = [trajectories[i].conditioning.guidance_scale for i in guided]
            scale = torch.tensor(scales, device=output.device).view(-1, 1, 1, 1)
            difference = prediction[guided] - unconditional
            prediction[guided] = (unconditional + scale * difference).to(output.dtype)
        return prediction

    def decode(self, latents: Tensor) -> Tensor:
        """Pictures of (rows, 3, height, width), float32 from 0 to 1.

        Raises RequestError where the model came with a safety checker that refuses the picture.
        """
        vae = self.pipeline.vae
        decoded = vae.decode(latents / vae.config.scaling_factor, return_dict=False)[0]
        decoded, unsafe = self.pipeline.run_safety_checker(decoded, self.device, self.dtype)
        if unsafe is not None and any(unsafe):
            raise RequestError("The model's safety checker refused the picture.")
        picture: Tensor = (decoded.float() * 0.5 + 0.5).clamp(0, 1)
        return picture

    def preview(self, trajectory: Trajectory, prediction: Tensor) -> NDArray[np.uint8]:
        return self._preview_map(
            predicted_original(
                trajectory.scheduler, trajectory.model_input, prediction, trajectory.timestep
            )
        )

    @property
    def _guidance_embedding_width(self) -> int:
        return self.pipeline.unet.config.time_cond_proj_dim or 0

    def _guidance_embedding(self, trajectories: Sequence[Trajectory]) -> Tensor | None:
        if not self._guidance_embedding_width:
            return None
        scales = torch.tensor([row.conditioning.guidance_scale - 1 for row in trajectories])
        embedding: Tensor = self.pipeline.get_guidance_scale_embedding(
            scales, embedding_dim=self._guidance_embedding_width
        )
        return embedding.to(self.device, self.dtype)

    def _embed(self, text: str) -> Tensor:
        if text in self._embeddings:
            self._embeddings.move_to_end(text)
            return self._embeddings[text]
        embedding: Tensor = self.pipeline.encode_prompt(text, self.device, 1, False)[0]
        self._embeddings[text] = embedding
        if len(self._embeddings) > _CACHED_PROMPTS:
            self._embeddings.popitem(last=False)
        return embedding

    def _latents_of(self, pictures: Tensor) -> Tensor:
        vae = self.pipeline.vae
        encoded = vae.encode(pictures.to(self.device, self.dtype)).latent_dist.mean
        latents: Tensor = encoded * vae.config.scaling_factor
        return latents

    def _check(self, params: SamplingParams) -> None:
        multiple = self.description.size_multiple
        if min(params.width, params.height) < multiple or (
            params.width % multiple or params.height % multiple
        ):
            raise RequestError(
                f"A picture of {params.width}x{params.height} pixels cannot be drawn; this model"
                f" takes multiples of {multiple}."
            )
        if params.num_inference_steps < 1:
            raise RequestError("A picture takes at least one denoising step.")


def _negative(row: Trajectory) -> Tensor | None:
    return row.conditioning.negative_prompt_embeds
