"""Writes prompts by a grammar: chance decides, weighted by what is asked for and liked."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from serve.artist.grammar import COMPOSITION, SUBJECT, Grammar, Option, fill, slots_of, words_of
from serve.http.errors import InvalidValue
from serve.jobs.why import Choice
from serve.trends.terms import terms_of
from serve.trends.trends import Trend

_MOST_NAMED = 12


@dataclass(frozen=True, slots=True)
class Written:
    """A prompt and how it came about."""

    prompt: str
    choices: Sequence[Choice]


class Writer:
    """Any number of prompts; the same arguments give the same ones in the same order."""

    def __init__(
        self,
        grammar: Grammar,
        seed: int,
        theme: str | None,
        trends: Sequence[Trend],
        exploration: float,
    ) -> None:
        """
        Raises:
            InvalidValue: the grammar has nothing about the theme.
        """
        self._chance = random.Random(seed)  # noqa: S311 - it decides nothing that must be secret
        self._grammar = grammar
        self._exploration = exploration
        self._trends = {trend.term: trend for trend in trends}
        self._slots = dict(grammar.slots)
        self._themed: dict[str, frozenset[str]] = {}
        """By slot the texts that the theme leaves, where it has any say."""
        if theme:
            self._narrow(theme)

    def __iter__(self) -> Iterator[Written]:
        while True:
            yield self._write()

    def _narrow(self, theme: str) -> None:
        wanted = words_of(" ".join(term.text for term in terms_of(theme))) or words_of(theme)
        about: dict[str, frozenset[str]] = {}
        covered: set[str] = set()
        for slot, options in self._slots.items():
            most = max(len(option.words & wanted) for option in options)
            if most:
                found = [option for option in options if len(option.words & wanted) == most]
                about[slot] = frozenset(option.text for option in found)
                covered |= wanted.intersection(*[option.words for option in found])
        if self._grammar.open_themes and not wanted <= covered:
            self._slots[SUBJECT] = [Option(text=theme)]
            about[SUBJECT] = frozenset([theme])
        elif not about:
            raise InvalidValue(
                f"theme: this model draws nothing about {theme[:100]!r}; take"
                f" {_listed(self._slots)}, or leave the theme out.",
                param="theme",
            )
        self._themed = about

    def _write(self) -> Written:
        chosen: dict[str, Option] = {}
        choices = []
        subject, choice = self._choose(SUBJECT, self._subjects())
        chosen[SUBJECT] = subject
        choices.append(choice)
        composition, choice = self._choose(COMPOSITION, self._compositions(subject))
        choices.append(choice)
        for slot in _others(composition):
            taken = {option.text for option in chosen.values()}
            free = [each for each in self._fitting(subject, slot) if each.text not in taken]
            chosen[slot], choice = self._choose(slot, self._about(slot, free) or free)
            choices.append(choice)
        return Written(fill(composition.text, chosen), choices)

    def _subjects(self) -> Sequence[Option]:
        """Those that the theme leaves; if it is about other slots, those that go with its words."""
        subjects = self._slots[SUBJECT]
        if about := self._about(SUBJECT, subjects):
            return about
        return [each for each in subjects if self._says_theme(each)] or subjects

    def _says_theme(self, subject: Option) -> bool:
        return any(self._tells(subject, each) for each in self._grammar.compositions)

    def _compositions(self, subject: Option) -> Sequence[Option]:
        """Those for whose slots something is left; where possible, those that say the theme."""
        fitting = [
            each
            for each in self._grammar.compositions
            if all(
                len(self._fitting(subject, slot)) > others  # no text is taken twice
                for others, slot in enumerate(_others(each))
            )
        ]
        return [each for each in fitting if self._tells(subject, each)] or fitting

    def _tells(self, subject: Option, composition: Option) -> bool:
        return any(self._about(slot, self._fitting(subject, slot)) for slot in _others(composition))

    def _fitting(self, subject: Option, slot: str) -> Sequence[Option]:
        """What of the slot can be said of the subject: "an orange orange" is no use."""
        texts = subject.goes_with.get(slot)
        return [
            each
            for each in self._slots[slot]
            if each.text != subject.text and (texts is None or each.text in texts)
        ]

    def _about(self, slot: str, options: Sequence[Option]) -> Sequence[Option]:
        texts = self._themed.get(slot, frozenset())
        return [each for each in options if each.text in texts]

    def _choose(self, slot: str, options: Sequence[Option]) -> tuple[Option, Choice]:
        explores = self._chance.random() < self._exploration
        plain = [option.weight for option in options]
        weights = plain if explores else [each.weight * self._factor(each) for each in options]
        [at] = self._chance.choices(range(len(options)), weights)
        option, share = options[at], weights[at] / sum(weights)
        trend = None if explores else self._trend(option)
        by = "exploration" if explores and self._trends else "trend" if trend else "weight"
        if option not in self._grammar.slots.get(slot, [option]):
            by = "theme"
        reason = f"Chosen by {by}, {share:.0%} likely among {len(options)}."
        if trend:
            reason += (
                f" By weight alone it was {plain[at] / sum(plain):.0%} likely; {trend.term} has a"
                f" score of {trend.score:g} and a rise of {trend.rise:g}."
            )
        return option, Choice(
            slot=slot, choice=option.text, by=by, share=round(share, 4), reason=reason
        )

    def _factor(self, option: Option) -> float:
        """How many times more often it comes: once, and more the more it is asked for and liked."""
        return 1 + max(map(self._interest, option.names), default=0.0)

    def _interest(self, words: frozenset[str]) -> float:
        """Of half of a name half of the interest."""
        found = [self._trends[word] for word in words if word in self._trends]
        return sum(map(interest_of, found)) / len(words)

    def _trend(self, option: Option) -> Trend | None:
        """The strongest one of the option's words."""
        words = frozenset[str]().union(*option.names)
        found = [self._trends[word] for word in sorted(words) if word in self._trends]
        return max(found, key=interest_of, default=None)


def interest_of(trend: Trend) -> float:
    """0 and up: the logarithm of what was asked for and liked, and how far that rises."""
    return math.log2(1 + trend.score) + max(0.0, trend.rise)


def _others(composition: Option) -> list[str]:
    """Its slots but the subject."""
    return [slot for slot in slots_of(composition.text) if slot != SUBJECT]


def _listed(slots: Mapping[str, Sequence[Option]]) -> str:
    themes = dict.fromkeys(theme for option in slots[SUBJECT] for theme in option.themes)
    names = list(themes) or [option.text for option in slots[SUBJECT]]
    return ", ".join(names[:_MOST_NAMED])
