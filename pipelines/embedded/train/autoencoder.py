# ruff: noqa: T201
"""The VAE: 64x64 pictures to 16x16 latents of 4 channels and back."""

import math
import time

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch.nn import functional

from . import pictures
from .concepts import COLOURS, concepts
from .icons import TRAIN_PATH, TRAIN_SETS, load

PATH = TRAIN_PATH / "autoencoder.pt"


def build() -> AutoencoderKL:
    """An untrained VAE of 0.65 M parameters."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(16, 32, 64),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=pictures.SIZE,
        mid_block_add_attention=False,
    )


def loss(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """L1, plus half the L1 of the gradients for sharp edges, plus the mean squared error."""
    difference = output - target
    edges = difference.diff(dim=-1).abs().mean() + difference.diff(dim=-2).abs().mean()
    return difference.abs().mean() + 0.5 * edges + difference.square().mean()


def batch(icons: torch.Tensor, size: int, generator: torch.Generator) -> torch.Tensor:
    """Random pictures [size, 3, 64, 64] of icons [N, 4, H, W] of bytes."""
    chosen = torch.randint(len(icons), (size,), generator=generator)
    drawn = icons[chosen].float() / 255
    palette = torch.tensor(list(COLOURS.values())) / 255
    tinted = torch.rand(size, generator=generator) < 0.3
    colours = palette[torch.randint(len(palette), (size,), generator=generator)]
    drawn[tinted] = pictures.recolour(drawn[tinted], colours[tinted])
    backgrounds = torch.rand(size, 3, generator=generator)
    backgrounds[torch.rand(size, generator=generator) < 0.6] = 1
    return pictures.compose(drawn, backgrounds, *pictures.placement(size, generator))


def fit(
    model: AutoencoderKL,
    icons: torch.Tensor,
    seconds: float,
    peak: float,
    batch_size: int = 12,
) -> None:
    """Trains for so many seconds; the learning rate falls from its peak down a cosine."""
    generator = torch.Generator().manual_seed(0)
    model.train()
    parameters = list(model.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=0.0, weight_decay=1e-4, betas=(0.9, 0.98))
    start, step, errors = time.monotonic(), 0, 0.0
    while (progress := (time.monotonic() - start) / seconds) < 1:
        cosine = (1 + math.cos(math.pi * progress)) / 2
        optimizer.param_groups[0]["lr"] = peak * min(1.0, (step + 1) / 50) * (0.01 + 0.99 * cosine)
        target = batch(icons, batch_size, generator)
        latents = model.encode(target).latent_dist.mean
        # No KL term: a mild pull to zero, and noise that makes neighbours decode alike.
        spread = 1e-3 * latents.square().mean()
        output = model.decode(latents + 0.05 * torch.randn_like(latents)).sample
        optimizer.zero_grad()
        torch.autograd.backward(loss(output, target) + spread)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        step += 1
        errors += functional.mse_loss(output, target).item() / 4
        if step % 50 == 0:
            took = time.monotonic() - start
            print(f"{step} {took:.0f}s {-10 * math.log10(errors / 50):.2f} dB", flush=True)
            errors = 0.0


def all_icons() -> torch.Tensor:
    """Every icon of the sets, [N, 4, 128, 128] of bytes."""
    icons = np.concatenate([np.stack(list(load(name).values())) for name in TRAIN_SETS])
    return torch.from_numpy(icons).permute(0, 3, 1, 2)


def chosen_icons() -> torch.Tensor:
    """The icons of the concepts only, [N, 4, 128, 128] of bytes."""
    sets = [load(name) for name in TRAIN_SETS[:3]]
    icons = [icons[c.icon] for icons in sets for c in concepts() if c.icon in icons]
    return torch.from_numpy(np.stack(icons)).permute(0, 3, 1, 2)


def save(model: AutoencoderKL) -> None:
    """Keeps the weights and the scaling factor."""
    scaling_factor = model.config.scaling_factor
    torch.save({"scaling_factor": scaling_factor, "weights": model.state_dict()}, PATH)


def train(seconds: float) -> None:
    """Trains on all icons for two thirds of the time, then on those of the concepts."""
    torch.manual_seed(0)
    model = build().to(memory_format=torch.channels_last)
    icons = chosen_icons()
    fit(model, all_icons(), seconds * 2 / 3, peak=3e-3)
    fit(model, icons, seconds / 3, peak=2e-3)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        encoded = [model.encode(batch(icons, 32, generator)).latent_dist.mean for _ in range(16)]
    model.register_to_config(scaling_factor=1 / torch.cat(encoded).std().item())
    save(model)


def restore() -> AutoencoderKL:
    """The trained VAE."""
    saved = torch.load(PATH, weights_only=True)
    model = build()
    model.load_state_dict(saved["weights"])
    model.register_to_config(scaling_factor=saved["scaling_factor"])
    return model.eval()
