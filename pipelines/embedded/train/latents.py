"""The training set: latents of many variants of every icon, made once."""

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

import numpy as np
import numpy.typing as npt
import torch

from . import autoencoder, pictures
from .captions import Content
from .concepts import COLOURS, Concept, concepts
from .icons import TRAIN_PATH, load

PATH = TRAIN_PATH / "latents.pt"

SETS = ("fluent-emoji-flat", "noto")
"""Where an icon is taken from: the first set that has it, so that all are of one style."""


@dataclass
class LatentSet:
    """Latents [N, 4, 16, 16], scaled to unit size, with contents and sampling weights [N]."""

    latents: torch.Tensor
    contents: list[Content]
    weights: torch.Tensor


def variants(concept: Concept) -> list[tuple[Content, float]]:
    """A picture's variants with the share of each kind: as is, on a colour, recoloured, both."""
    names = list(COLOURS)
    as_is = [Content(concept, None, None)] * 8
    backed = [Content(concept, None, name) for name in names]
    dyed = [Content(concept, name, None) for name in names]
    turns = (3, 6) if concept.shape else (1 + len(concept.name) % 9,)
    both = [
        Content(concept, name, names[(place + turn) % len(names)])
        for place, name in enumerate(names)
        for turn in turns
    ]
    shares = (0.15, 0.1, 0.55, 0.2) if concept.shape else (0.6, 0.16, 0.19, 0.05)
    kinds = zip((as_is, backed, dyed, both), shares, strict=True)
    return [(content, share / len(kind)) for kind, share in kinds for content in kind]


def encode(icon: npt.NDArray[np.uint8], contents: list[Content], seed: int) -> torch.Tensor:
    """Latents [N, 4, 16, 16] in half precision of an icon's variants."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(seed)
    model = autoencoder.restore()
    palette = {name: torch.tensor(rgb) / 255 for name, rgb in COLOURS.items()}
    drawn = (torch.from_numpy(icon).permute(2, 0, 1) / 255).repeat(len(contents), 1, 1, 1)
    backgrounds = torch.ones(len(contents), 3)
    for place, content in enumerate(contents):
        if content.colour is not None:
            drawn[place] = pictures.recolour(drawn[place, None], palette[content.colour])[0]
        if content.background is not None:
            # A little lighter than the colour itself, so that the icon stands out.
            backgrounds[place] = 0.75 * palette[content.background] + 0.25
    placed = pictures.placement(len(contents), generator)
    targets = pictures.compose(drawn, backgrounds, *placed)
    with torch.no_grad():
        parts = [model.encode(part).latent_dist.mean for part in torch.split(targets, 8)]
    scaling_factor: float = model.config.scaling_factor
    return (torch.cat(parts) * scaling_factor).half()


def build() -> LatentSet:
    """Draws and encodes the variants of every concept."""
    sets = [load(name) for name in SETS]
    known = concepts()
    icons = [next(drawn[c.icon] for drawn in sets if c.icon in drawn) for c in known]
    chosen = [variants(concept) for concept in known]
    contents = [[content for content, _ in variant] for variant in chosen]
    # One thread each in two processes: faster than two threads over such small pictures.
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        latents = torch.cat(list(pool.map(encode, icons, contents, range(len(known)))))
    weights = [
        share * (2.0 if content.concept.shape else 1.0)
        for variant in chosen
        for content, share in variant
    ]
    return LatentSet(latents, [c for part in contents for c in part], torch.tensor(weights))


def restore() -> LatentSet:
    """The training set, built on the first call."""
    if not PATH.exists():
        built = build()
        torch.save(built, PATH)
    saved: LatentSet = torch.load(PATH, weights_only=False)
    return saved
