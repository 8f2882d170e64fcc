"""Writes the prompts of autonomous jobs, and submits them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from itertools import islice
from uuid import UUID

from serve.artist.errors import PromptTaken
from serve.artist.grammars import grammar_of
from serve.artist.repository import drawn_before, lock_artist
from serve.artist.writer import Writer, Written
from serve.database import Database, Session
from serve.jobs.autonomous import Check
from serve.jobs.errors import NothingNew
from serve.jobs.lifecycle import Jobs
from serve.jobs.limits import ServedModels
from serve.jobs.request import JobRequest
from serve.jobs.why import Why
from serve.settings import ArtistSettings
from serve.tables import Job
from serve.trends.trends import Order, Trends, Window

_TRIES = 200
_AT_ONCE = 20
_MOST_TERMS = 500
_MOST_TOLD = 10


class Artist:
    """The artist of every tenant: each has trends and a memory of its own."""

    def __init__(
        self, database: Database, jobs: Jobs, trends: Trends, served: ServedModels
    ) -> None:
        """
        Raises:
            GrammarError: one of the settings' files cannot be used.
        """
        self._database = database
        self._jobs = jobs
        self._trends = trends
        self._served = served
        for model in self._settings.grammars:
            grammar_of(served.settings, model)

    @property
    def _settings(self) -> ArtistSettings:
        return self._served.settings.artist

    @property
    def _window(self) -> timedelta:
        return timedelta(days=self._settings.window_days)

    async def submit(
        self,
        tenant_id: UUID,
        request: JobRequest,
        *,
        idempotency_key: str | None = None,
        check: Check | None = None,
        for_all: bool = False,
    ) -> Job:
        """Write the request's prompt, and submit it: see `serve.jobs.autonomous.Author`.

        ``check`` may refuse it in the transaction that would accept it. ``for_all``: other tenants
        will see it, so it shows of trends only what they may see.

        Raises:
            InvalidValue, NothingNew: as there.
            Exception: whatever `Jobs.submit` and ``check`` raise.
        """
        self._jobs.screen(request)
        if accepted := await self._jobs.accepted(tenant_id, request, idempotency_key):
            return accepted
        grammar = grammar_of(self._served.settings, request.model)
        trends = await self._trends.list(
            None if for_all else tenant_id, Window.DAY, order=Order.TOP, limit=_MOST_TERMS
        )
        exploration = self._settings.exploration
        thoughts = islice(Writer(grammar, request.seed, request.theme, trends, exploration), _TRIES)
        avoided: list[str] = []
        while several := list(islice(thoughts, _AT_ONCE)):
            drawn = await self._drawn(tenant_id, several)
            for written in several:
                if written.prompt in drawn:
                    avoided.append(written.prompt)
                    continue
                why = Why(
                    theme=request.theme,
                    grammar=grammar.name,
                    exploration=exploration,
                    choices=list(written.choices),
                    avoided=list(dict.fromkeys(avoided))[:_MOST_TOLD],
                )
                try:
                    return await self._jobs.submit(
                        tenant_id,
                        replace(request, prompt=written.prompt),
                        idempotency_key=idempotency_key,
                        why=why,
                        check=partial(self._check, tenant_id, written.prompt, check),
                    )
                except PromptTaken:  # by a job that came at the same moment
                    avoided.append(written.prompt)
        about = f" about {request.theme!r}" if request.theme else ""
        raise NothingNew(
            f"All {_TRIES} prompts{about} that the artist thought of were drawn within the last"
            f" {self._settings.window_days:g} days; leave out the theme, or take another."
        )

    async def _drawn(self, tenant_id: UUID, written: Sequence[Written]) -> set[str]:
        prompts = [each.prompt for each in written]
        async with self._database.transaction() as session:
            return await drawn_before(session, tenant_id, prompts, self._window)

    async def _check(
        self,
        tenant_id: UUID,
        prompt: str,
        further: Check | None,
        session: Session,
        device_s: float,
    ) -> None:
        """Raises PromptTaken; under a lock, so that no two jobs at once have the same prompt."""
        await lock_artist(session, tenant_id)
        if await drawn_before(session, tenant_id, [prompt], self._window):
            raise PromptTaken
        if further is not None:
            await further(session, device_s)
