# ruff: noqa: T201
"""How often the model draws what it was asked for: `python -m pipelines.embedded.train.score`."""

import argparse
import time
from collections import Counter

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

from pipelines.embedded import MODEL_PATH

from . import classifier, contact_sheet
from .captions import article
from .concepts import COLOURS, Concept, concepts

COLOURED = ("heart", "circle", "star", "dog", "cat", "car", "balloon")
"""What the colour words are tried on."""

UNNATURAL = (("blue", "apple"), ("green", "elephant"), ("purple", "frog"), ("pink", "tree"))


def named(
    model: classifier.Classifier, images: list[Image.Image], known: list[Concept]
) -> list[list[str]]:
    """The five likeliest concepts of each picture, best first."""
    pixels = torch.stack([torch.from_numpy(np.array(image.convert("RGB"))) for image in images])
    with torch.no_grad():
        ranked = model(pixels.permute(0, 3, 1, 2).float() / 127.5 - 1).topk(5).indices
    return [[known[i].name for i in row] for row in ranked.tolist()]


def lab(
    rgb: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """CIELAB (D65) of sRGB [..., 3] in 0 to 255."""
    linear = rgb / 255
    linear = np.where(linear > 0.04045, ((linear + 0.055) / 1.055) ** 2.4, linear / 12.92)
    matrix = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )
    scaled = linear @ matrix.T / np.array([0.9505, 1.0, 1.089])
    root = np.where(scaled > 0.008856, np.cbrt(scaled), 7.787 * scaled + 16 / 116)
    return np.stack(
        [
            116 * root[..., 1] - 16,
            500 * (root[..., 0] - root[..., 1]),
            200 * (root[..., 1] - root[..., 2]),
        ],
        axis=-1,
    )


def colour(image: Image.Image) -> str | None:
    """The colour word nearest to most of a picture's foreground; None where all is background.

    The foreground is what differs from the median colour of the picture's rim.
    """
    pixels = lab(np.array(image.convert("RGB")).astype(np.float64))
    rim = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    foreground = pixels[np.linalg.norm(pixels - np.median(rim, axis=0), axis=-1) > 20]
    if len(foreground) < 0.03 * pixels.shape[0] * pixels.shape[1]:
        return None
    names = list(COLOURS)
    palette = lab(np.array([COLOURS[name] for name in names], dtype=np.float64))
    distance = np.linalg.norm(foreground[:, None] - palette, axis=-1)
    return names[Counter(distance.argmin(1).tolist()).most_common(1)[0][0]]


def main() -> None:
    """Draws every concept and colour, and prints the score as a Markdown table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seeds", type=int, default=3, help="pictures a prompt")
    options.add_argument("--steps", type=int, default=20)
    options.add_argument("--guidance-scale", type=float, default=3.0)
    asked = options.parse_args()
    pipeline = StableDiffusionPipeline.from_pretrained(MODEL_PATH, local_files_only=True)
    model, known = classifier.restore(), concepts()
    start = time.monotonic()

    plain = [concept.name for concept in known if not concept.shape for _ in range(asked.seeds)]
    images = contact_sheet.draw(
        pipeline, [article(name) for name in plain], asked.steps, asked.guidance_scale, seed=1000
    )
    seconds = (time.monotonic() - start) / len(images)
    found = named(model, images, known)
    first = sum(name == best[0] for name, best in zip(plain, found, strict=True))
    five = sum(name in best for name, best in zip(plain, found, strict=True))
    shuffled = sum(
        name == best[0] for name, best in zip(plain[57:] + plain[:57], found, strict=True)
    )

    pairs = [(word, thing) for thing in COLOURED for word in COLOURS] + list(UNNATURAL)
    images = contact_sheet.draw(
        pipeline,
        [article(f"{word} {thing}") for word, thing in pairs],
        asked.steps,
        asked.guidance_scale,
        seed=5000,
    )
    right = [colour(image) == word for image, (word, _) in zip(images, pairs, strict=True)]
    things = named(model, images, known)
    both = [
        hit and best[0] == thing for hit, best, (_, thing) in zip(right, things, pairs, strict=True)
    ]
    real = classifier.accuracy(model)
    count = len(plain)
    print(f"{asked.steps} steps, guidance scale {asked.guidance_scale}, {asked.seeds} seeds\n")
    print("| what | score |\n|---|---|")
    print(f"| concepts | {count // asked.seeds} |")
    print(f"| top-1 | {first / count:.1%} of {count} |")
    print(f"| top-5 | {five / count:.1%} |")
    print(f"| top-1 with the prompts shuffled (chance) | {shuffled / count:.1%} |")
    print(f"| colour word right | {sum(right) / len(right):.1%} of {len(right)} |")
    print(f"| colour and thing right | {sum(both) / len(both):.1%} |")
    print(f"| the classifier itself on real icons it never saw, top-1 | {real[0]:.1%} |")
    print(f"| the same, top-5 | {real[1]:.1%} |")
    print(f"\n{seconds:.2f} s a picture in batches of 8 on {torch.get_num_threads()} threads.")
    misses = Counter(name for name, best in zip(plain, found, strict=True) if name not in best)
    print("Not in the top 5:", ", ".join(f"{n} {k}" for n, k in misses.most_common()))
    wrong = [f"{w} {t}" for hit, (w, t) in zip(right, pairs, strict=True) if not hit]
    print("Wrong colour:", ", ".join(wrong))


if __name__ == "__main__":
    main()
