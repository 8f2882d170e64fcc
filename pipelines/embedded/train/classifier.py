# ruff: noqa: T201
"""A small CNN that names a picture, to score what the model draws."""

import math
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional

from . import pictures
from .concepts import COLOURS, concepts
from .icons import HELD_OUT_SET, TRAIN_SETS, load

PATH = Path(__file__).parent / "classifier.safetensors"


class Classifier(nn.Sequential):
    """Scores [N, concepts] of pictures [N, 3, 64, 64] in -1 to 1."""

    def __init__(self, classes: int) -> None:
        layers: list[nn.Module] = []
        widths = ((3, 32, 2), (32, 64, 2), (64, 64, 1), (64, 128, 2), (128, 128, 1), (128, 256, 2))
        for inputs, outputs, stride in widths:
            layers += [
                nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(),
            ]
        layers += [nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(0.3)]
        super().__init__(*layers, nn.Linear(4 * 256, classes))


def labelled(icon_sets: tuple[str, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """Icons [N, 4, 128, 128] of bytes and the numbers [N] of their concepts."""
    icons, labels = [], []
    for icon_set in icon_sets:
        drawn = load(icon_set)
        for label, concept in enumerate(concepts()):
            if concept.icon in drawn:
                icons.append(drawn[concept.icon])
                labels.append(label)
    return torch.from_numpy(np.stack(icons)).permute(0, 3, 1, 2), torch.tensor(labels)


def batch(icons: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Pictures [N, 3, 64, 64] of icons, varied more than those that the model learns from."""
    size = len(icons)
    drawn = icons.float() / 255
    flipped = torch.rand(size, generator=generator) < 0.3
    drawn[flipped] = drawn[flipped].flip(-1)
    tinted = torch.rand(size, generator=generator) < 0.35
    palette = torch.tensor(list(COLOURS.values())) / 255
    colours = palette[torch.randint(len(palette), (size,), generator=generator)]
    drawn[tinted] = pictures.recolour(drawn[tinted], colours[tinted])
    backgrounds = torch.rand(size, 3, generator=generator)
    backgrounds[torch.rand(size, generator=generator) < 0.6] = 1
    scales = 0.7 + 0.35 * torch.rand(size, generator=generator)
    shifts = (torch.rand(size, 2, generator=generator) * 2 - 1) * 0.12
    drawn = pictures.compose(drawn, backgrounds, scales, shifts)
    # Blur and noise, as a generated picture is never as clean as an icon.
    blurred = functional.interpolate(
        functional.avg_pool2d(drawn, 2), scale_factor=2.0, mode="bilinear"
    )
    share = torch.rand(size, 1, 1, 1, generator=generator)
    drawn = drawn + share * (blurred - drawn)
    noise = 0.15 * torch.rand(size, 1, 1, 1, generator=generator)
    return drawn + noise * torch.randn(drawn.shape, generator=generator)


def train(seconds: float, batch_size: int = 64, path: Path = PATH) -> Classifier:
    """Trains for so many seconds on the real icons and saves the weights in half precision."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    icons, labels = labelled(TRAIN_SETS)
    model = Classifier(len(concepts())).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, weight_decay=0.05)
    start, step = time.monotonic(), 0
    while (progress := (time.monotonic() - start) / seconds) < 1:
        optimizer.param_groups[0]["lr"] = 2e-3 * (1 + math.cos(math.pi * progress)) / 2
        chosen = torch.randint(len(icons), (batch_size,), generator=generator)
        output = model(batch(icons[chosen], generator))
        loss = functional.cross_entropy(output, labels[chosen], label_smoothing=0.1)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        if step % 100 == 0:
            print(f"{step} {time.monotonic() - start:.0f}s loss {loss.item():.3f}", flush=True)
        step += 1
    save_file({name: value.half() for name, value in model.state_dict().items()}, path)
    path.chmod(0o644)
    return restore(path)


def restore(path: Path = PATH) -> Classifier:
    """The trained classifier."""
    model = Classifier(len(concepts()))
    model.load_state_dict({name: value.float() for name, value in load_file(path).items()})
    return model.eval()


def accuracy(model: Classifier) -> tuple[float, float]:
    """Top-1 and top-5 on the held-out set's real icons, from 0 to 1."""
    icons, labels = labelled((HELD_OUT_SET,))
    size = len(icons)
    drawn = pictures.compose(
        icons.float() / 255, torch.ones(size, 3), torch.full((size,), 0.9), torch.zeros(size, 2)
    )
    with torch.no_grad():
        ranked = model(drawn).topk(5).indices
    hits = ranked == labels[:, None]
    return hits[:, 0].float().mean().item(), hits.any(1).float().mean().item()
