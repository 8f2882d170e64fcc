"""What all families share that denoise the latents of a VAE."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Hashable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.utils.torch_utils import randn_tensor
from numpy.typing import NDArray
from torch import Tensor

from pipelines.diffusion.adapters import check_control
from pipelines.diffusion.catalog import ModelDescription
from pipelines.diffusion.errors import RequestError
from pipelines.diffusion.families.rows import Row, guide, rows_of, takes_loras
from pipelines.diffusion.lora.bank import LoraBank
from pipelines.diffusion.pixels import mask_tensor, picture_tensor
from pipelines.diffusion.preview import PreviewMap, predicted_original
from pipelines.diffusion.prompt_cache import PromptCache
from pipelines.diffusion.request import SamplingParams
from pipelines.diffusion.schedulers import make_scheduler
from pipelines.diffusion.speed.acceleration import Acceleration, Use
from pipelines.diffusion.speed.batch_buckets import padded
from pipelines.diffusion.text_reading import best_reading, observe_tokenizers, recorded_texts
from pipelines.diffusion.trajectory import (
    Conditioning,
    Inpainting,
    TextEmbedding,
    Trajectory,
    noised,
)
from pipelines.diffusion.vae import Vae

PROMPT_CACHE_BYTES = 64 * 2**20

TIMESTEPS_DEVICE = "cpu"
"""Noise schedulers index by timesteps on the host; from a GPU each reading waits for its work."""


class Family(ABC):
    """A loaded diffusers pipeline behind four verbs: encode, prepare, denoise, decode.

    All but ``denoise`` concern one request; what they raise is that request's own failure. Every
    method is called by one thread, under ``torch.inference_mode``. A family adds how a prompt is
    read (``_embed``) and how the denoiser is called (``_forward``); where its noise schedule needs
    more than a number of steps, ``_scheduler``.
    """

    def __init__(self, pipeline: Any, description: ModelDescription) -> None:
        """``pipeline`` is on its device and in its dtype already."""
        self.pipeline = pipeline
        self.description = description
        # Asked for in every step, and diffusers walks all modules to answer.
        self.device: torch.device = self.denoiser.device
        self.dtype: torch.dtype = self.denoiser.dtype
        self.vae = Vae(pipeline.vae)
        self.prompts = PromptCache(PROMPT_CACHE_BYTES)
        self.loras = LoraBank(pipeline)
        # Set by ``accelerate``:
        self.acceleration: Acceleration | None = None
        self.batch_buckets: tuple[int, ...] = ()
        self.captures = False  # set by ``warm_buckets``: memory is measured before
        observe_tokenizers(pipeline)
        self._preview_map = PreviewMap.fit(self.vae.encode, description.vae_scale_factor)

    @staticmethod
    @abstractmethod
    def read(folder: Path, dtype: torch.dtype, without: Collection[str] = ()) -> Any:
        """A diffusers folder's pipeline in plain memory; only safetensors are read."""

    @property
    @abstractmethod
    def denoiser(self) -> Any:
        """The UNet or transformer."""

    @abstractmethod
    def _embed(self, text: str, clip_skip: int) -> TextEmbedding:
        """As the pipeline's ``encode_prompt`` does it; ``clip_skip`` is 0 where it takes none."""

    @abstractmethod
    def _forward(self, rows: Sequence[Row]) -> Sequence[Tensor]:
        """One pass of the denoiser: for each row an output of (1, channels, height, width)."""

    @property
    def fixed_prompt_length(self) -> bool:
        """Whether the denoiser sees all prompts at one length, so that shapes of passes repeat."""
        return True

    @property
    def controlnet_names(self) -> tuple[str, ...]:
        """Those that a request can name."""
        return ()

    @property
    def decodes_beside(self) -> bool:
        """Whether ``decode`` is better called on a CUDA stream of its own than within the step."""
        speed_ups = self.acceleration
        return speed_ups is not None and speed_ups.decode_stream is Use.ALWAYS

    def batch_key(self, params: SamplingParams) -> Hashable:
        """Requests with equal keys can share a forward pass.

        The picture's (height, width): convolutions and group norm force it, nothing else.
        """
        return params.height, params.width

    def encode(self, params: SamplingParams) -> Conditioning:
        """The prompt's embedding and, for a guided request, the negative prompt's."""
        self.description.check_clip_skip(params.clip_skip)
        guided = self._is_guided(params)
        with self.loras.applied([params.loras]):
            return Conditioning(
                positive=self._embedding(params.prompt, params.clip_skip),
                negative=self._negative_embedding(params) if guided else None,
                guidance_scale=params.guidance_scale,
                loras=params.loras,
            )

    def prepare(self, params: SamplingParams, conditioning: Conditioning) -> Trajectory:
        """The first latents. Raises RequestError for what cannot be drawn.

        Noise is drawn on the CPU, as diffusers does: one seed, one picture on any device.
        """
        self._check(params)
        dtype = self._latents_dtype(conditioning)
        trajectory = Trajectory(
            conditioning=conditioning,
            latents=torch.empty(0),
            scheduler=self._scheduler(params),
            generator=torch.Generator("cpu").manual_seed(params.seed),
            steps=params.num_inference_steps,
        )
        if params.image is None:
            noise = self._noise(params, trajectory.generator, dtype)
            trajectory.latents = noise * first_sigma(trajectory.scheduler)
        else:
            self._start_from(params.image, params, trajectory, dtype)
        return trajectory

    def denoise(self, trajectories: Sequence[Trajectory]) -> list[Tensor]:
        """One forward pass: for each a prediction in the shape of its latents."""
        rows = self._filled(rows_of(trajectories))
        with self.loras.applied([row.trajectory.conditioning.loras for row in rows]):
            outputs = self._forward(rows)
        return guide(trajectories, outputs)

    def decode(self, latents: Tensor) -> Tensor:
        """Latents of one request to a float32 picture of (1, 3, height, width) from 0 to 1."""
        picture: Tensor = (self.vae.decode(latents).float() * 0.5 + 0.5).clamp(0, 1)
        return picture

    def preview(self, trajectory: Trajectory, prediction: Tensor) -> NDArray[np.uint8] | None:
        """The picture in sight before the step that ``prediction`` is for.

        (height, width, 3) at the latents' resolution; None of a VAE whose encoder knows no numbers.
        """
        if self._preview_map is None:
            return None
        return self._preview_map(
            predicted_original(
                trajectory.scheduler, trajectory.scaled_latents, prediction, trajectory.timestep
            )
        )

    def _filled(self, rows: Sequence[Row]) -> Sequence[Row]:
        """Up to the next batch bucket; passes with LoRAs are neither compiled nor replayed."""
        if any(takes_loras(row) for row in rows):
            return rows
        return padded(rows, self.batch_buckets)

    def _is_guided(self, params: SamplingParams) -> bool:
        return params.guidance_scale > 1

    def _embedding(self, text: str, clip_skip: int = 0) -> TextEmbedding:
        key = text, clip_skip, self.loras.text_key
        return self.prompts.get(key, lambda: self._read(text, clip_skip))

    def _read(self, text: str, clip_skip: int) -> TextEmbedding:
        with recorded_texts() as texts_read:
            embedding = self._embed(text, clip_skip)
        return replace(embedding, reading=best_reading(texts_read))

    def _negative_embedding(self, params: SamplingParams) -> TextEmbedding:
        """An empty negative prompt means what none means to the pipeline, which reads either with
        all layers."""
        return self._embedding(params.negative_prompt)

    def _latents_dtype(self, conditioning: Conditioning) -> torch.dtype:
        return conditioning.positive.tokens.dtype

    def _scheduler(self, params: SamplingParams) -> Any:
        return make_scheduler(
            params.scheduler, self.pipeline.scheduler, params.num_inference_steps, TIMESTEPS_DEVICE
        )

    def _noise(
        self, params: SamplingParams, generator: torch.Generator, dtype: torch.dtype
    ) -> Tensor:
        factor = self.description.vae_scale_factor
        shape = (
            1,
            self.pipeline.vae.config.latent_channels,
            params.height // factor,
            params.width // factor,
        )
        noise: Tensor = randn_tensor(shape, generator=generator, device=self.device, dtype=dtype)
        return noise

    def _start_from(
        self,
        image: NDArray[np.uint8],
        params: SamplingParams,
        trajectory: Trajectory,
        dtype: torch.dtype,
    ) -> None:
        """Noises a source picture (arXiv:2108.01073); what is drawn, and when, is diffusers'."""
        scheduler, generator = trajectory.scheduler, trajectory.generator
        self._skip(params, trajectory)
        source = self.vae.encode(picture_tensor(image), generator).to(dtype)
        noise = self._noise(params, generator, dtype)
        if params.mask is not None and params.strength == 1:
            trajectory.latents = noise * first_sigma(scheduler)
        else:
            trajectory.latents = noised(scheduler, source, noise, trajectory.timestep[None])
        if params.mask is not None:
            mask = mask_tensor(params.mask, self.description.vae_scale_factor)
            trajectory.inpainting = Inpainting(mask.to(source), source, noise)
            # diffusers encodes the masked picture here, even for models that do not look at it.
            self.vae.skip_draw(source, generator)

    def _skip(self, params: SamplingParams, trajectory: Trajectory) -> None:
        """Leaves out the first steps, as ``strength`` asks."""
        scheduler, steps = trajectory.scheduler, params.num_inference_steps
        skipped = steps - self.description.made_steps(steps, params.strength)
        trajectory.steps -= skipped
        trajectory.begin = skipped * scheduler.order
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(trajectory.begin)

    def _check(self, params: SamplingParams) -> None:
        self.description.check_size(params.width, params.height)
        self._check_pixels(params)
        self._check_source(params)
        self._check_control(params)

    def _check_pixels(self, params: SamplingParams) -> None:
        """All that comes with the request has the size of its picture."""
        control = None if params.control is None else params.control.image
        for name, pixels in (("image", params.image), ("mask", params.mask), ("control", control)):
            if pixels is not None and pixels.shape[:2] != (params.height, params.width):
                raise RequestError(
                    f"The {name} has {pixels.shape[1]}x{pixels.shape[0]} pixels; resize it to the"
                    f" picture's {params.width}x{params.height}."
                )

    def _check_source(self, params: SamplingParams) -> None:
        self.description.check_source(image=params.image is not None, mask=params.mask is not None)
        if params.image is not None:
            self.description.check_strength(params.num_inference_steps, params.strength)

    def _check_control(self, params: SamplingParams) -> None:
        asked = params.control
        if asked is not None:
            check_control(
                asked.controlnet, asked.scale, asked.start, asked.end, self.controlnet_names
            )


def first_sigma(scheduler: Any) -> Any:
    """What unit noise is scaled by at the start; flow matching starts with it as it is."""
    return getattr(scheduler, "init_noise_sigma", 1.0)
