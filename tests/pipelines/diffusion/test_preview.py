from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, EDMEulerScheduler
from torch.nn import functional

from pipelines.diffusion.preview import PreviewMap, predicted_original


def test_a_linear_vae_is_found_exactly() -> None:
    mixing = torch.tensor([[0.5, 0.2, -0.3], [0.1, -0.7, 0.4], [0.3, 0.3, 0.9], [0.0, 0.0, 0.0]])

    def encode(pictures: torch.Tensor) -> torch.Tensor:
        latents = torch.einsum("oc,nchw->nohw", mixing, functional.avg_pool2d(pictures, 4))
        return latents + 0.25

    preview = PreviewMap.fit(encode, vae_scale_factor=4)
    assert preview is not None
    picture = torch.rand(1, 3, 5, 7, generator=torch.Generator().manual_seed(1))
    latents = torch.einsum("oc,nchw->nohw", mixing, picture * 2 - 1) + 0.25
    image = preview(latents)
    assert image.shape == (5, 7, 3)
    assert image.flags.c_contiguous
    expected = picture[0].permute(1, 2, 0).mul(255).numpy()
    np.testing.assert_allclose(image.astype(float), expected, atol=1)


def test_colours_are_clamped() -> None:
    preview = PreviewMap(torch.ones(3, 4), torch.zeros(3))
    assert preview(torch.full((1, 4, 2, 2), 9.0)).min() == 255
    assert preview(torch.full((1, 4, 2, 2), -9.0)).max() == 0


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_predicted_original(kind: str) -> None:
    """A perfect prediction gives the picture back, whatever it is that the model predicts."""
    scheduler = DDIMScheduler(prediction_type=kind)
    generator = torch.Generator().manual_seed(0)
    original, noise = torch.randn(2, 1, 4, 8, 8, generator=generator)
    timestep = torch.tensor(500)
    noisy = scheduler.add_noise(original, noise, timestep)
    perfect = {
        "epsilon": noise,
        "v_prediction": scheduler.get_velocity(original, noise, timestep),
        "sample": original,
    }[kind]
    got = predicted_original(scheduler, noisy, perfect, timestep)
    torch.testing.assert_close(got, original, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_predicted_original_by_edm(kind: str) -> None:
    scheduler = EDMEulerScheduler(prediction_type=kind)
    scheduler.set_timesteps(4)
    generator = torch.Generator().manual_seed(0)
    original, noise = torch.randn(2, 1, 4, 8, 8, generator=generator)
    timestep, sigma = scheduler.timesteps[1], scheduler.sigmas[1]
    noisy = original + sigma * noise
    kept = scheduler.precondition_outputs(noisy, torch.zeros_like(noisy), sigma)
    weight = scheduler.precondition_outputs(torch.zeros(1), torch.ones(1), sigma)
    seen = scheduler.scale_model_input(noisy, timestep)
    got = predicted_original(scheduler, seen, (original - kept) / weight, timestep)
    torch.testing.assert_close(got, original, atol=1e-4, rtol=1e-4)
