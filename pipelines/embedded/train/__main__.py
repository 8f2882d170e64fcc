"""`python -m pipelines.embedded.train STEP [SECONDS]`; README.md lists the steps in order."""

import argparse
from collections.abc import Callable

import torch
from diffusers import StableDiffusionPipeline

from pipelines.embedded import MODEL_PATH

from . import autoencoder, classifier, contact_sheet, denoiser, vocabulary
from .export import export

_TIMED: dict[str, tuple[Callable[[float], object], float]] = {
    "autoencoder": (autoencoder.train, 660),
    "denoiser": (denoiser.train, 5400),
    "classifier": (classifier.train, 240),
}


def sheet() -> None:
    """Draws the exported model's contact sheet next to it."""
    pipeline = StableDiffusionPipeline.from_pretrained(MODEL_PATH, local_files_only=True)
    prompts = list(contact_sheet.PROMPTS)
    drawn = contact_sheet.sheet(contact_sheet.draw(pipeline, prompts), prompts)
    drawn.save(MODEL_PATH / "contact-sheet.webp", quality=90)


def main() -> None:
    """Runs one step."""
    options = argparse.ArgumentParser(prog="python -m pipelines.embedded.train")
    options.add_argument("step", choices=[*_TIMED, "export", "sheet", "vocabulary"])
    options.add_argument("seconds", type=float, nargs="?", help="how long to train in all")
    options.add_argument("--threads", type=int, default=2)
    asked = options.parse_args()
    torch.set_num_threads(asked.threads)
    if asked.step == "export":
        export()
    elif asked.step == "sheet":
        sheet()
    elif asked.step == "vocabulary":
        vocabulary.write()
    else:
        train, seconds = _TIMED[asked.step]
        train(seconds if asked.seconds is None else asked.seconds)


if __name__ == "__main__":
    main()
