# ruff: noqa: T201
"""How often the artist's pictures of the embedded model are what they say.

``python -m loadtests.recognised`` writes prompts as the artist does at its defaults, draws two
pictures of each, keeps the better one, and has the model's scoring classifier name it. Where the
prompt has a colour, most of what is not background must be of it.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from diffusers import StableDiffusionPipeline

from pipelines.embedded import MODEL_PATH
from pipelines.embedded.train import classifier, contact_sheet
from pipelines.embedded.train.concepts import concepts
from pipelines.embedded.train.score import colour, named
from pipelines.imaging.critique import critique
from serve.artist.grammar import SUBJECT, Grammar
from serve.artist.grammars import FILE_NAME
from serve.artist.writer import Writer, Written
from serve.settings import ArtistSettings, ModelSettings

_PALETTE = "palette"


@dataclass(frozen=True, slots=True)
class Seen:
    """A picture that was kept, and what of its prompt it shows; no colour was asked for if None."""

    prompt: str
    subject: bool
    colour: bool | None
    kept: int

    @property
    def recognised(self) -> bool:
        return self.subject and self.colour is not False


def prompts(count: int, seed: int) -> Iterator[Written]:
    """No two alike; each job's seed is two on from the last one's."""
    grammar, known = Grammar.read(MODEL_PATH / FILE_NAME), set[str]()
    for job in range(count):
        writer = Writer(grammar, seed + 2 * job, None, (), ArtistSettings().exploration)
        written = next(each for each in writer if each.prompt not in known)
        known.add(written.prompt)
        yield written


def look(count: int, seed: int) -> list[Seen]:
    """Draws and names so many pictures, of which each is the better of two."""
    pipeline = StableDiffusionPipeline.from_pretrained(MODEL_PATH, local_files_only=True)
    model, known, defaults = classifier.restore(), concepts(), ModelSettings()
    written = list(prompts(count, seed))
    drawn = contact_sheet.draw(
        pipeline,
        [each.prompt for each in written for _ in range(2)],
        defaults.default_steps,
        defaults.default_guidance_scale,
        seed,
    )
    scores = [critique(np.asarray(image.convert("RGB"))).score for image in drawn]
    kept = [int(scores[at + 1] > scores[at]) for at in range(0, len(drawn), 2)]
    better = [drawn[2 * job + place] for job, place in enumerate(kept)]
    seen = []
    for each, image, best, place in zip(
        written, better, named(model, better, known), kept, strict=True
    ):
        chosen = {choice.slot: choice.choice for choice in each.choices}
        word = chosen.get(_PALETTE)
        right = None if word is None else colour(image) == word
        seen.append(Seen(each.prompt, best[0] == chosen[SUBJECT], right, place))
    return seen


def main() -> None:
    """Prints the shares as a Markdown table, and what was not recognised."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--prompts", type=int, default=200)
    options.add_argument("--seed", type=int, default=1_000_000)
    asked = options.parse_args()
    seen = look(asked.prompts, asked.seed)
    coloured = [each for each in seen if each.colour is not None]
    kept = Counter(each.kept for each in seen)
    print("| what | share |\n|---|---|")
    print(f"| recognised as what it says | {_share([each.recognised for each in seen])} |")
    print(f"| the thing is right | {_share([each.subject for each in seen])} |")
    print(f"| its colour is right | {_share([bool(each.colour) for each in coloured])} |")
    print(f"\nThe second picture was kept {kept[1]} times.")
    print("Not recognised:", "; ".join(each.prompt for each in seen if not each.recognised))


def _share(right: list[bool]) -> str:
    return f"{sum(right) / len(right):.1%} of {len(right)}"


if __name__ == "__main__":
    main()
