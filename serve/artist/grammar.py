"""What an artist may say: options for each slot of a prompt, and how they are put together."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
)

from serve.artist.errors import GrammarError
from serve.trends.terms import terms_of

SUBJECT = "subject"
COMPOSITION = "composition"
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_ARTICLE = "a"
# Not before a "u" that sounds like "you".
_AN = re.compile(r"[aeio]|u(?!ni|fo|se|to)", re.IGNORECASE)
_WORD = re.compile(r"[^\W_]+")

Line = Annotated[str, Field(min_length=1, max_length=200)]


class Option(BaseModel):
    """Something that can stand in a slot.

    ``synonyms`` are other words for it, by which themes and trends find it; ``themes`` are what it
    is about, by which themes alone do. ``goes_with`` lists by slot which options it can be
    combined with; other slots are free. A ``plural`` has no article.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    text: Line
    weight: float = Field(1.0, gt=0, le=1e6)
    synonyms: tuple[Line, ...] = ()
    themes: tuple[Line, ...] = ()
    goes_with: dict[str, frozenset[Line]] = {}
    plural: bool = False

    @cached_property
    def names(self) -> list[frozenset[str]]:
        """The words of the text and of each synonym, as trends count them."""
        found = (
            frozenset(term.text for term in terms_of(each)) for each in (self.text, *self.synonyms)
        )
        return [words for words in found if words]

    @cached_property
    def words(self) -> frozenset[str]:
        """By which a theme finds it."""
        return words_of(" ".join((self.text, *self.synonyms, *self.themes)))


def words_of(text: str) -> frozenset[str]:
    """Folded, and in the singular, as far as an "s" makes it."""
    return frozenset(
        word.removesuffix("s") if len(word) > 3 else word for word in _WORD.findall(text.casefold())
    )


def _as_option(value: object) -> object:
    return {"text": value} if isinstance(value, str) else value


_OPTIONS = TypeAdapter(
    Annotated[
        tuple[Annotated[Option, BeforeValidator(_as_option)], ...],
        Field(min_length=1, max_length=10_000),
    ]
)
_THEMES = TypeAdapter(Literal["open", "closed"])


@dataclass(frozen=True)
class Grammar:
    """Of one file.

    A theme that no subject is about becomes the subject itself if ``open_themes``; else it is
    refused.
    """

    name: str
    slots: Mapping[str, Sequence[Option]]
    compositions: Sequence[Option]
    open_themes: bool

    @classmethod
    def read(cls, path: Path) -> Self:
        """
        Raises:
            GrammarError: it cannot be read, or is none.
        """
        try:
            return cls.parse(path.name, tomllib.loads(path.read_text("utf-8")))
        except OSError as error:
            raise GrammarError(f"The grammar {path} cannot be read: {error.strerror}.") from error
        except ValueError as error:
            raise GrammarError(
                f"The grammar {path} cannot be used: {error}; see docs/artist.md."
            ) from error

    @classmethod
    def parse(cls, name: str, described: Mapping[str, Any]) -> Self:
        """
        Raises:
            ValueError: something is missing or wrong.
        """
        found: dict[str, Sequence[Option]] = {}
        themes = "open"
        for key, value in described.items():
            try:
                if key == "themes":
                    themes = _THEMES.validate_python(value)
                else:
                    found[key] = _OPTIONS.validate_python(value)
            except ValidationError as error:
                first = error.errors(include_url=False)[0]
                where = ".".join(map(str, (key, *first["loc"])))
                raise ValueError(f"{where}: {first['msg']}") from error
        for key in (SUBJECT, COMPOSITION):
            if key not in found:
                raise ValueError(f"it has no `{key}`, a list of options")
        compositions = found.pop(COMPOSITION)
        _check_slots(found, compositions)
        return cls(name, found, compositions, themes == "open")


def _check_slots(slots: Mapping[str, Sequence[Option]], compositions: Sequence[Option]) -> None:
    """Raises ValueError where a slot is named that there is not."""
    for option in compositions:
        used = slots_of(option.text)
        if unknown := sorted(set(used) - slots.keys()):
            raise ValueError(
                f"the composition {option.text!r} names {unknown[0]!r}, and there are:"
                f" {', '.join(slots)}"
            )
        if SUBJECT not in used:
            raise ValueError(f"the composition {option.text!r} has no subject")
    for option in slots[SUBJECT]:
        if unknown := sorted(option.goes_with.keys() - slots.keys()):
            raise ValueError(f"{option.text!r} goes with {unknown[0]!r}, which is no slot")


def slots_of(composition: str) -> list[str]:
    """The slots that it names, in their order."""
    named = [word for inner in _PLACEHOLDER.findall(composition) for word in inner.split()]
    return list(dict.fromkeys(word for word in named if word != _ARTICLE))


def fill(composition: str, chosen: Mapping[str, Option]) -> str:
    """The prompt: ``{a palette subject}`` becomes "a red heart", and "red cherries"."""

    def phrase(match: re.Match[str]) -> str:
        named = match[1].split()
        options = [chosen[word] for word in named if word != _ARTICLE]
        words = " ".join(option.text for option in options)
        if _ARTICLE not in named or any(option.plural for option in options):
            return words
        return f"{'an' if _AN.match(words) else 'a'} {words}"

    return _PLACEHOLDER.sub(phrase, composition)
