"""Between pictures and latents."""

from __future__ import annotations

from typing import Any

import torch
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor


class Vae:
    """A diffusers VAE in the units of its denoiser: latents shifted and scaled."""

    def __init__(self, vae: Any) -> None:
        """``vae`` is on its device and in its dtype already."""
        self.model = vae

    def encode(self, pictures: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Pictures of (rows, 3, height, width) from -1 to 1 to latents.

        Sampled with ``generator``, as diffusers does; the mean without one.
        """
        model = self.model
        distribution = model.encode(pictures.to(model.device, model.dtype)).latent_dist
        latents = distribution.mean if generator is None else distribution.sample(generator)
        scaled: Tensor = (latents - self._shift) * model.config.scaling_factor
        return scaled

    def decode(self, latents: Tensor) -> Tensor:
        """Latents to pictures of (rows, 3, height, width), about -1 to 1, in the VAE's dtype."""
        unscaled = latents.to(self.model.dtype) / self.model.config.scaling_factor + self._shift
        decoded: Tensor = self.model.decode(unscaled, return_dict=False)[0]
        return decoded

    @staticmethod
    def skip_draw(latents: Tensor, generator: torch.Generator) -> None:
        """Advances ``generator`` as sampling such latents would."""
        randn_tensor(latents.shape, generator=generator, device=latents.device, dtype=latents.dtype)

    @property
    def _shift(self) -> float:
        return getattr(self.model.config, "shift_factor", None) or 0.0
