"""What a prompt is about, in words."""

from __future__ import annotations

import re
import unicodedata
from enum import StrEnum
from typing import NamedTuple


class TermKind(StrEnum):
    """What a term names."""

    SUBJECT = "subject"
    STYLE = "style"
    COLOUR = "colour"


class Term(NamedTuple):
    """A word or two of a prompt, folded."""

    kind: TermKind
    text: str


_MOST_TERMS = 24
"""Of a prompt, the first ones."""
_LONGEST_STYLE = 3
"""In words."""
_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
_COLOUR_WORDS = """
    amber aqua azure beige black blonde blue bronze brown copper coral cream crimson cyan
    emerald gold golden gray green grey indigo ivory khaki lavender lilac lime magenta maroon
    mauve navy ochre olive orange peach pink plum purple red rose ruby rust salmon sapphire
    scarlet sepia silver tan teal turquoise vermilion violet white yellow
    """
_STYLES = frozenset(
    {
        *("abstract", "anime", "art deco", "art nouveau", "baroque", "bauhaus", "blueprint"),
        *("cartoon", "charcoal", "cinematic", "claymation", "collage", "comic", "comic book"),
        *("concept art", "cubism", "cubist", "cyberpunk", "digital art", "engraving", "etching"),
        *("expressionism", "fantasy art", "flat design", "fresco", "gothic", "graffiti"),
        *("hyperrealism", "illustration", "impressionism", "impressionist", "ink", "isometric"),
        *("line art", "linocut", "low poly", "manga", "minimalism", "minimalist", "mosaic"),
        *("noir", "oil on canvas", "oil painting", "origami", "papercut", "pastel", "pen and ink"),
        *("photo", "photograph", "photography", "photorealism", "photorealistic", "pixel art"),
        *("pointillism", "pop art", "portrait", "realism", "realistic", "renaissance", "retro"),
        *("risograph", "sculpture", "sketch", "stained glass", "steampunk", "sticker"),
        *("surreal", "surrealism", "surrealist", "ukiyo-e", "vaporwave", "vector art", "vintage"),
        *("watercolor", "watercolour", "woodblock print", "woodcut"),
    }
)
_SMALL_WORDS = """
    a about above across after against all along also am among an and any are around as at away
    be because been before behind being below beneath beside between beyond both but by can
    could did do does down during each either every few for from had has have he her here hers
    him his how i if in inside into is it its just like made make many me more most much my near
    neither no nor not of off on one onto or other our out outside over own per she should so
    some such than that the their them then there these they this those through to too toward
    towards two under until up upon us use very was we were what when where which while who
    whose why will with within without would you your best quality masterpiece detailed highly
    ultra high resolution render rendered trending artstation picture image drawing painting art
    style
    """
_COLOURS = frozenset(_COLOUR_WORDS.split())
_SMALL = frozenset(_SMALL_WORDS.split())


def terms_of(prompt: str) -> list[Term]:
    """The prompt's colours, styles and other words of weight, each once, as they come."""
    words = _WORD.findall(unicodedata.normalize("NFKC", prompt).casefold())
    found: dict[Term, None] = {}
    at = 0
    while at < len(words) and len(found) < _MOST_TERMS:
        taken, term = _term_at(words, at)
        if term is not None:
            found[term] = None
        at += taken
    return list(found)


def _term_at(words: list[str], at: int) -> tuple[int, Term | None]:
    """How many words it takes from there, and the term, if it is one."""
    for length in range(_LONGEST_STYLE, 0, -1):
        phrase = " ".join(words[at : at + length])
        if phrase in _STYLES:
            return length, Term(TermKind.STYLE, phrase)
    word = words[at]
    if word in _COLOURS:
        return 1, Term(TermKind.COLOUR, word)
    short = word.isascii() and len(word) < 3
    if word in _SMALL or short or len(word) > 40:
        return 1, None
    return 1, Term(TermKind.SUBJECT, word)
