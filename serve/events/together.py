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
    No answer is older than its question. Where a round fails, each of its questions is asked alone,
    so that none fails by another; but not if it failed by what is ``shared`` by all.
    """

    def __init__(
        self,
        answer: Callable[[Sequence[Q]], Awaitable[Sequence[A]]],
        at_once: int,
        patience_s: float = 1.0,
        shared: type[Exception] | tuple[type[Exception], ...] = (),
    ) -> None:
        """``answer`` gives an answer to each question, in their order."""
        self._answer = answer
        self._at_once = at_once
        self._patience_s = patience_s
        self._shared = shared
        self._last: _Round[Q, A] | None = None

    async def ask(self, question: Q) -> A:
        """The answer, or what ``answer`` raised over this question.

        Who leaves does not take it from the others.
        """
        joined = self._last
        if joined is None or joined.begun.is_set() or len(joined.questions) == self._at_once:
            joined = self._last = self._round(joined)
        place = len(joined.questions)
        joined.questions.append(question)
        answer = (await asyncio.shield(joined.answers))[place]
        if isinstance(answer, _Failed):
            raise answer.error
        return answer

    def _round(self, before: _Round[Q, A] | None) -> _Round[Q, A]:
        questions: list[Q] = []
        begun = asyncio.Event()
        answers = asyncio.create_task(self._answer_after(before, begun, questions))
        return _Round(questions, begun, answers)

    async def _answer_after(
        self, before: _Round[Q, A] | None, begun: asyncio.Event, questions: Sequence[Q]
    ) -> Sequence[A | _Failed]:
        if before is not None:
            await before.begun.wait()
            # One that hangs, on a connection that broke without a word, may not hold up all others.
            await asyncio.wait({before.answers}, timeout=self._patience_s)
        begun.set()
        try:
            return await self._answer(questions)
        except self._shared:
            raise
        except Exception:
            if len(questions) == 1:
                raise
            return [await self._answer_alone(question) for question in questions]

    async def _answer_alone(self, question: Q) -> A | _Failed:
        try:
            (answer,) = await self._answer([question])
        except self._shared:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the one who asked is told
            return _Failed(error)
        return answer


@dataclass(frozen=True)
class _Failed:
    """What came in the place of an answer."""

    error: Exception


@dataclass(frozen=True)
class _Round(Generic[Q, A]):
    """Questions that are asked together."""

    questions: list[Q]
    begun: asyncio.Event
    """Nobody joins any more."""
    answers: asyncio.Task[Sequence[A | _Failed]]
