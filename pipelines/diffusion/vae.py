"""Between pictures and latents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from pipelines.diffusion.speed.acceleration import Use
from pipelines.diffusion.speed.device_memory import release_memory
from pipelines.diffusion.speed.vae_tiling import VaeTiling


class Vae:
    """A diffusers VAE in the units of its denoiser: latents shifted and scaled."""

    def __init__(self, vae: Any) -> None:
        """``vae`` is on its device and in its dtype already."""
        self.model = vae
        self.tiling = VaeTiling(Use.NEVER)
        """Set by ``accelerate``."""
        config = vae.config
        self._mean: float | Tensor = getattr(config, "shift_factor", None) or 0.0
        self._scale: float | Tensor = config.scaling_factor
        if getattr(config, "latents_mean", None) and getattr(config, "latents_std", None):
            self._mean = _per_channel(config.latents_mean, vae)
            self._scale = config.scaling_factor / _per_channel(config.latents_std, vae)

    def encode(self, pictures: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Pictures of (rows, 3, height, width) from -1 to 1 to latents.

        Sampled with ``generator``, as diffusers does; the mean without one.
        """
        model = self.model
        distribution = model.encode(pictures.to(model.device, model.dtype)).latent_dist
        latents = distribution.mean if generator is None else distribution.sample(generator)
        scaled: Tensor = (latents - self._mean) * self._scale
        return scaled

    def decode(self, latents: Tensor) -> Tensor:
        """Latents to pictures of (rows, 3, height, width), about -1 to 1, in the VAE's dtype.

        What is not finite comes out as NaN, which whoever clamps the picture does not hide. Where
        memory runs out it is decoded once more, in tiles if it can be.
        """
        unscaled = latents.to(self.model.dtype) / self._scale + self._mean
        tiled = self.tiling.wanted(self.model, latents)
        try:
            decoded = self._decoded(unscaled, tiled)
        except torch.OutOfMemoryError:
            release_memory()
            decoded = self._decoded(unscaled, tiled=hasattr(self.model, "tiled_decode"))
        return decoded.masked_fill_(~decoded.isfinite(), torch.nan)

    def _decoded(self, unscaled: Tensor, tiled: bool) -> Tensor:
        decode = self.model.tiled_decode if tiled else self.model.decode
        decoded: Tensor = decode(unscaled, return_dict=False)[0]
        return decoded

    def skip_draw(self, latents: Tensor, generator: torch.Generator) -> None:
        """Advances ``generator`` as sampling such latents would."""
        randn_tensor(
            latents.shape, generator=generator, device=latents.device, dtype=self.model.dtype
        )


def _per_channel(values: Sequence[float], vae: Any) -> Tensor:
    return torch.tensor(values, device=vae.device, dtype=vae.dtype).view(1, -1, 1, 1)
