"""Previews: a linear map from latents to colours, fitted to whichever VAE the model has."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

_PICTURES = 8
_LATENT_SIZE = 12


class PreviewMap:
    """Latents of (1, channels, height, width) to a (height, width, 3) uint8 picture."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        """``weight`` is (3, channels), ``bias`` (3,); both for colours from 0 to 1."""
        self._weight = weight
        self._bias = bias

    @classmethod
    @torch.inference_mode()
    def fit(cls, encode: Callable[[Tensor], Tensor], vae_scale_factor: int) -> PreviewMap | None:
        """Solves for the map by least squares on what the VAE makes of a few plain pictures.

        ``encode`` takes float32 pictures of (rows, 3, height, width) from -1 to 1 to latents as
        the denoiser sees them. None if those are not finite: who only decodes draws all the same.
        """
        pictures = _plain_pictures(_LATENT_SIZE * vae_scale_factor)
        latents = encode(pictures * 2 - 1).float().cpu()
        if not latents.isfinite().all():
            return None
        colours = functional.avg_pool2d(pictures, vae_scale_factor)
        inputs = latents.movedim(1, -1).flatten(0, 2)
        inputs = torch.cat([inputs, torch.ones(len(inputs), 1)], dim=1)
        # gelsd copes with latents that do not span all their channels.
        solution = torch.linalg.lstsq(
            inputs, colours.movedim(1, -1).flatten(0, 2), driver="gelsd"
        ).solution
        return cls(solution[:-1].T.contiguous(), solution[-1])

    def __call__(self, latents: Tensor) -> NDArray[np.uint8]:
        flat = latents[0].detach().float().cpu().flatten(1)
        colours = torch.addmm(self._bias[:, None], self._weight, flat)
        picture = colours.clamp(0, 1).mul(255).round().to(torch.uint8)
        return np.ascontiguousarray(
            picture.reshape(3, *latents.shape[-2:]).permute(1, 2, 0).numpy()
        )


def predicted_original(
    scheduler: Any, model_input: Tensor, prediction: Tensor, timestep: Tensor
) -> Tensor:
    """The noise-free latents that the model has in mind: far clearer than the live ones.

    Solves the forward process x = sqrt(a) x0 + sqrt(1 - a) noise for x0 (arXiv:2006.11239,
    equation 4; for v-prediction arXiv:2202.00512, appendix D); under flow matching
    x = (1 - s) x0 + s noise, with noise - x0 predicted (arXiv:2403.03206, section 2). EDM
    (arXiv:2206.00364, table 1) is told a quarter of the noise's logarithm for a timestep.
    """
    if hasattr(scheduler, "precondition_outputs"):
        sigma = math.exp(4 * float(timestep))
        latents = model_input * math.hypot(sigma, scheduler.config.sigma_data)
        original: Tensor = scheduler.precondition_outputs(latents, prediction, sigma)
        return original
    if hasattr(scheduler, "scale_noise"):
        sigma = float(timestep) / scheduler.config.num_train_timesteps
        return model_input.sub(prediction, alpha=sigma)
    kind = scheduler.config.get("prediction_type", "epsilon")
    if kind == "sample":
        return prediction
    index = min(max(round(float(timestep)), 0), len(scheduler.alphas_cumprod) - 1)
    alpha = float(scheduler.alphas_cumprod[index])
    signal, noise = max(alpha, 1e-4) ** 0.5, (1 - alpha) ** 0.5
    if kind == "v_prediction":
        return model_input.mul(signal).sub(prediction, alpha=noise)
    return model_input.sub(prediction, alpha=noise).div(signal)


def _plain_pictures(size: int) -> Tensor:
    """Coloured squares of three sizes, (rows, 3, size, size) from 0 to 1."""
    generator = torch.Generator().manual_seed(0)
    squares = [
        functional.interpolate(
            torch.rand(_PICTURES, 3, cells, cells, generator=generator) * 2 - 0.5,
            size=size,
            mode="nearest",
        )
        for cells in (1, 2, 4)
    ]
    return torch.cat(squares).clamp(0, 1)  # so that black, white and full colours are common
