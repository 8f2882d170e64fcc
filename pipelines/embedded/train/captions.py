"""Prompts as people write them, for a picture whose contents are known."""

import random
from dataclasses import dataclass

from .concepts import Concept

_LEADS = ("a picture of", "an icon of", "a drawing of", "an image of", "a photo of", "an emoji of")
_FILLERS = (
    *("nice", "small", "big", "little", "beautiful", "pretty", "happy", "funny", "colorful"),
    *("single", "lovely", "bright", "great", "tiny", "sweet", "cool", "perfect"),
)
_TAILS = ("high quality", "detailed", "digital art", "illustration", "cartoon", "flat style", "3d")


@dataclass(frozen=True)
class Content:
    """What a picture shows: a concept, recoloured or not, on a background or on white."""

    concept: Concept
    colour: str | None
    background: str | None


def article(words: str) -> str:
    """Words with the indefinite article, unless they are in the plural or uncountable."""
    if words.endswith(("cherries", "grapes", "fries", "eyes", "popcorn")):
        return words
    return f"an {words}" if words[0] in "aeio" or words == "umbrella" else f"a {words}"


def _behind(background: str | None, chance: random.Random) -> str:
    if background is None:
        return " on a white background" if chance.random() < 0.06 else ""
    colour = article(background)
    ways = (
        f" on {colour} background",
        f" on {colour} background",
        f" on {background}",
        f" with {colour} background",
        f" in front of {colour} background",
    )
    return chance.choice(ways)


def caption(content: Content, chance: random.Random) -> str:
    """One of many prompts for a picture; one in ten is empty, for classifier-free guidance."""
    if chance.random() < 0.1:
        return ""
    concept = content.concept
    words = concept.name
    if concept.synonyms and chance.random() < 0.35:
        words = chance.choice(concept.synonyms)
    if content.colour is not None:
        words = f"{content.colour} {words}"
    if chance.random() < 0.08:
        words = f"{chance.choice(_FILLERS)} {words}"
    if chance.random() < 0.65:
        words = article(words) if chance.random() < 0.85 else f"the {words}"
    if chance.random() < 0.25:
        words = f"{chance.choice(_LEADS)} {words}"
    words += _behind(content.background, chance)
    if chance.random() < 0.06:
        words = f"{words}, {chance.choice(_TAILS)}"
    return words
