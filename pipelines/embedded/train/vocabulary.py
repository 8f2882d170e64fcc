# ruff: noqa: T201
"""The artist's grammar for this model: of all that it was taught, what it draws recognisably."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from diffusers import StableDiffusionPipeline

from pipelines.embedded import MODEL_PATH

from . import classifier, contact_sheet
from .captions import article
from .concepts import COLOURS, Concept, concepts
from .score import colour, named

PATH = MODEL_PATH / "grammar.toml"
SEEDS = 2
_FIRST_SEED = 20_000

_HEAD = """\
# What the artist asks the embedded model for: prompts as its captions are (train/captions.py).
# Written by `python -m pipelines.embedded.train vocabulary`, which asked for each thing in each
# colour and on each background with 2 seeds: what was not recognised both times is left out. A
# colour and a background at once is what it draws right too seldom.

themes = "closed"

composition = [
    { text = "{a palette subject}", weight = 5 },
    { text = "{a subject} on {a background} background", weight = 5 },
    { text = "{a subject}" },
    { text = "{a mood subject} on {a background} background" },
    { text = "{style} {a palette subject}" },
    { text = "{style} {a subject} on {a background} background" },
    { text = "{a palette subject}, {finish}" },
]

mood = ["nice", "small", "big", "beautiful", "happy", "funny", "lovely", "bright", "tiny"]
style = ["a picture of", "an icon of", "a drawing of", "an image of", "an emoji of"]
finish = ["flat style", "digital art", "cartoon", "illustration", "detailed"]
"""

_THEMES = (
    ("animals", "dog", "ladybug"),
    ("pets", "dog", "cat"),
    ("birds", "chick", "duck"),
    ("sea", "fish", "crab"),
    ("insects", "butterfly", "ladybug"),
    ("faces", "smiley", "angry face"),
    ("halloween", "ghost", "ghost"),
    ("halloween", "skull", "skull"),
    ("halloween", "pumpkin", "pumpkin"),
    ("space", "alien", "robot"),
    ("space", "rocket", "ufo"),
    ("space", "sun", "moon"),
    ("space", "earth", "earth"),
    ("food", "apple", "beer"),
    ("fruit", "apple", "pineapple"),
    ("drinks", "coffee", "beer"),
    ("plants", "rose", "palm tree"),
    ("flowers", "rose", "flower"),
    ("trees", "tree", "palm tree"),
    ("nature", "rose", "palm tree"),
    ("nature", "mountain", "water drop"),
    ("vehicles", "car", "ufo"),
    ("buildings", "house", "castle"),
    ("sky", "sun", "lightning"),
    ("weather", "cloud", "umbrella"),
    ("winter", "snowflake", "snowflake"),
    ("winter", "snowman", "snowman"),
    ("party", "cake", "cake"),
    ("party", "balloon", "gift"),
    ("things", "crown", "camera"),
    ("music", "guitar", "guitar"),
    ("sports", "soccer ball", "trophy"),
    ("clothes", "hat", "shirt"),
    ("love", "heart eyes", "heart eyes"),
    ("love", "heart", "heart"),
    ("shapes", "heart", "star"),
)
"""A theme, and the first and last concept of a run that is about it."""


@dataclass
class Recognised:
    """How a concept may be shown: the colours that it was recognised in, and on."""

    palette: list[str] = field(default_factory=list)
    background: list[str] = field(default_factory=list)


def measure(seeds: int = SEEDS) -> dict[str, Recognised]:
    """By the name of each concept that is recognised plain; of colours those alone that are seen.

    `score` says what recognised means.
    """
    pipeline = StableDiffusionPipeline.from_pretrained(MODEL_PATH, local_files_only=True)
    model, known = classifier.restore(), concepts()

    def right(prompts: Mapping[str, str], word: str | None = None) -> list[str]:
        """The concepts that all seeds show; in the colour, if there is one."""
        hits: dict[str, int] = defaultdict(int)
        names = [name for name in prompts for _ in range(seeds)]
        asked = [prompts[name] for name in names]
        images = contact_sheet.draw(pipeline, asked, seed=_FIRST_SEED)
        for name, image, best in zip(names, images, named(model, images, known), strict=True):
            hits[name] += name == best[0] and (word is None or colour(image) == word)
        print(f"{next(iter(prompts.values()))} and the like: {sum(hits.values())} of {len(names)}")
        return [name for name, count in hits.items() if count == seeds]

    names = [concept.name for concept in known]
    found = {name: Recognised() for name in right({name: article(name) for name in names})}
    for word in COLOURS:
        tinted = {name: article(f"{word} {name}") for name in found if name != word}
        for name in right(tinted, word):
            found[name].palette.append(word)
        behind = {name: f"{article(name)} on {article(word)} background" for name in found}
        for name in right(behind):
            found[name].background.append(word)
    return found


def grammar(known: Sequence[Concept], found: Mapping[str, Recognised]) -> str:
    """The TOML file that `serve.artist.grammar` reads."""
    order = {concept.name: place for place, concept in enumerate(known)}
    colours = ", ".join(f'"{word}"' for word in COLOURS)
    lines = [_HEAD, f"palette = [{colours}]", f"background = [{colours}]", "", "subject = ["]
    for concept in known:
        if concept.name not in found:
            continue
        shown = found[concept.name]
        themes = [
            theme
            for theme, first, last in _THEMES
            if order[first] <= order[concept.name] <= order[last]
        ]
        fits = f"palette = {_array(shown.palette)}, background = {_array(shown.background)}"
        parts = [
            f'text = "{concept.name}"',
            *([f"synonyms = {_array(concept.synonyms)}"] if concept.synonyms else []),
            *([f"themes = {_array(themes)}"] if themes else []),
            f"goes_with = {{ {fits} }}",
            *(["plural = true"] if article(concept.name) == concept.name else []),
        ]
        lines.append(f"    {{ {', '.join(parts)} }},")
    return "\n".join([*lines, "]", ""])


def _array(words: Sequence[str]) -> str:
    quoted = ", ".join(f'"{word}"' for word in words)
    return f"[{quoted}]"


def write() -> None:
    """Measures, and writes the file into the model's folder."""
    PATH.write_text(grammar(concepts(), measure()))
