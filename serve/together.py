"""One answer for all who ask while the one before is on its way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Q = TypeVar("Q")
A = TypeVar("A")


class Together(Generic[Q, A]):
    """Puts questions together that come while others are being answered.

    Who asks alone is answered at once. Whoever asks meanwhile waits for that answer, and then for
    their own, with up to ``at_once`` others. No answer is older than its question.
    """

    def __init__(
        self, answer: Callable[[Sequence[Q]], Awaitable[Sequence[A]]], at_once: int
    ) -> None:
        """``answer`` gives an answer to each question, in their order; one call at a time."""
        self._answer = answer
        self._at_once = at_once
        self._gathering: list[Q] | None = None
        """To be asked by the last task; nobody joins what is asked already."""
        self._last: asyncio.Task[Sequence[A]] | None = None

    async def ask(self, question: Q) -> A:
        """The answer; what ``answer`` raises is raised for all whom it was to answer.

        Who leaves does not take it from the others.
        """
        if self._gathering is None or len(self._gathering) == self._at_once:
            self._gathering = []
            self._last = asyncio.create_task(self._answer_after(self._last, self._gathering))
        assert self._last is not None  # noqa: S101 - it asks what is gathered
        place = len(self._gathering)
        self._gathering.append(question)
        return (await asyncio.shield(self._last))[place]

    async def _answer_after(
        self, before: asyncio.Task[Sequence[A]] | None, questions: list[Q]
    ) -> Sequence[A]:
        if before is not None and not before.done():
            await asyncio.wait({before})
        if self._gathering is questions:
            self._gathering = None
        return await self._answer(questions)
