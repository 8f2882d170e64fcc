"""Pictures made of icons: moved, scaled, recoloured, on a background."""

import torch
from torch.nn import functional

SIZE = 64
"""Pixels a side of a picture."""


def recolour(icons: torch.Tensor, colours: torch.Tensor) -> torch.Tensor:
    """Icons in shades of one colour each: the median tone becomes the colour itself.

    Icons are [N, 4, H, W] in 0 to 1 with straight alpha, colours [N, 3]. Darker tones go to
    black, lighter ones to white, so that eyes and outlines stay visible.
    """
    weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    tone = (icons[:, :3] * weights).sum(1, keepdim=True)
    opaque = torch.where(icons[:, 3:] > 0.5, tone, torch.nan)
    middle = opaque.flatten(1).nanmedian(1).values.nan_to_num(0.5).clamp(0.2, 0.85)
    middle = middle.view(-1, 1, 1, 1)
    colours = colours.view(-1, 3, 1, 1)
    dark = colours * (tone / middle).clamp(max=1)
    light = ((tone - middle) / (1 - middle)).clamp(min=0) * 0.85
    return torch.cat([dark + (1 - dark) * light, icons[:, 3:]], dim=1)


def compose(
    icons: torch.Tensor, backgrounds: torch.Tensor, scales: torch.Tensor, shifts: torch.Tensor
) -> torch.Tensor:
    """Pictures [N, 3, 64, 64] in -1 to 1 of icons [N, 4, H, W] over backgrounds [N, 3].

    A scale of 1 fills the picture; shifts [N, 2] are in half picture widths.
    """
    alpha = icons[:, 3:]
    premultiplied = torch.cat([icons[:, :3] * alpha, alpha], dim=1)
    theta = torch.zeros(len(icons), 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = 1 / scales
    theta[:, :, 2] = -shifts / scales[:, None]
    size = [len(icons), 4, 2 * SIZE, 2 * SIZE]
    grid = functional.affine_grid(theta, size, align_corners=False)
    moved = functional.grid_sample(premultiplied, grid, align_corners=False)
    moved = functional.avg_pool2d(moved, 2)
    pictures = moved[:, :3] + (1 - moved[:, 3:]) * backgrounds.view(-1, 3, 1, 1)
    return pictures.clamp(0, 1) * 2 - 1


def placement(count: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Random scales [N] and shifts [N, 2], by a pixel or two."""
    scales = 0.9 + 0.05 * torch.rand(count, generator=generator)
    shifts = (torch.rand(count, 2, generator=generator) * 2 - 1) * 0.03
    return scales, shifts
