"""What a model family does for the engine."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipelines.diffusion.catalog import ModelDescription
from pipelines.diffusion.request import SamplingParams
from pipelines.diffusion.trajectory import Conditioning, Trajectory


class Family(Protocol):
    """Loaded weights behind four verbs: encode, prepare, denoise, decode.

    All but ``denoise`` concern one request; what they raise is that request's own failure.
    Every method is called by one thread, under ``torch.inference_mode``.
    """

    @property
    def description(self) -> ModelDescription: ...

    @property
    def device(self) -> torch.device: ...

    @property
    def dtype(self) -> torch.dtype: ...

    @property
    def decodes_beside(self) -> bool:
        """Whether ``decode`` is better called on a CUDA stream of its own than within the step."""

    def batch_key(self, params: SamplingParams) -> Hashable:
        """Requests with equal keys can share a forward pass."""

    def encode(self, params: SamplingParams) -> Conditioning:
        """The prompts' embeddings."""

    def prepare(self, params: SamplingParams, conditioning: Conditioning) -> Trajectory:
        """The first latents, out of the seed. Raises RequestError for what cannot be drawn."""

    def denoise(self, trajectories: Sequence[Trajectory]) -> list[Tensor]:
        """One forward pass: for each a prediction in the shape of its latents."""

    def decode(self, latents: Tensor) -> Tensor:
        """Latents of one request to a float32 picture of (1, 3, height, width) from 0 to 1."""

    def preview(self, trajectory: Trajectory, prediction: Tensor) -> NDArray[np.uint8] | None:
        """The picture in sight before the step that ``prediction`` is for.

        (height, width, 3) at the latents' resolution; None from a family that cannot see it.
        """
