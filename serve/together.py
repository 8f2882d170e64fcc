"""One answer for all who ask while the one before is on its way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Q = TypeVar("Q")
A = TypeVar("A")


class Together(Generic[Q, A]):
    """Puts questions together that come while others are being answered.

    Who asks alone is answered at once. Whoever asks meanwhile waits for that round to end, though
    never for more than ``patience_s`` of it, and then for their own, with up to ``at_once`` others.
    No answer is older than its question.
    """

    def __init__(
        self,
        answer: Callable[[Sequence[Q]], Awaitable[Sequence[A]]],
        at_once: int,
        patience_s: float = 1.0,
    ) -> None:
        """``answer`` gives an answer to each question, in their order."""
        self._answer = answer
        self._at_once = at_once
        self._patience_s = patience_s
        self._last: _Round[Q, A] | None = None

    async def ask(self, question: Q) -> A:
        """The answer; what ``answer`` raises is raised for all whom it was to answer.

        Who leaves does not take it from the others.
        """
        joined = self._last
        if joined is None or joined.begun.is_set() or len(joined.questions) == self._at_once:
            joined = self._last = self._round(joined)
        place = len(joined.questions)
        joined.questions.append(question)
        answers = await asyncio.shield(joined.answers)
        return answers[place]

    def _round(self, before: _Round[Q, A] | None) -> _Round[Q, A]:
        questions: list[Q] = []
        begun = asyncio.Event()
        answers = asyncio.create_task(self._answer_after(before, begun, questions))
        return _Round(questions, begun, answers)

    async def _answer_after(
        self, before: _Round[Q, A] | None, begun: asyncio.Event, questions: Sequence[Q]
    ) -> Sequence[A]:
        if before is not None:
            await before.begun.wait()
            # One that hangs, on a connection that broke without a word, may not hold up all others.
            await asyncio.wait({before.answers}, timeout=self._patience_s)
        begun.set()
        return await self._answer(questions)


@dataclass(frozen=True)
class _Round(Generic[Q, A]):
    """Questions that are asked together."""

    questions: list[Q]
    begun: asyncio.Event
    """Nobody joins any more."""
    answers: asyncio.Task[Sequence[A]]
