"""Jobs whose prompt the artist writes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Protocol
from uuid import UUID

from serve.database import Session
from serve.http.errors import InvalidValue, MissingField
from serve.jobs.request import JobRequest
from serve.jobs.schemas import JobBody
from serve.tables import Job

DRAWN = 2
"""Pictures of an autonomous job; the better one is kept."""

Check = Callable[[Session, float], Awaitable[None]]
"""Looks in the transaction that would accept a job of so many device seconds, before anything is
written; raises if it may not be accepted."""


class Author(Protocol):
    """Writes prompts, and has them drawn; it is `serve.artist.artist.Artist`."""

    async def submit(
        self, tenant_id: UUID, request: JobRequest, *, idempotency_key: str | None = None
    ) -> Job:
        """As `Jobs.submit`, of an autonomous ``request`` without its prompt.

        Raises:
            InvalidValue: the model draws nothing about the theme.
            NothingNew: all that it draws about it was drawn before.
        """


def check_mode(body: JobBody) -> None:
    """Whether the body has what its mode needs, and nothing else.

    Raises:
        InvalidValue, MissingField: it has not.
    """
    if body.mode is None:
        if body.theme is not None:
            raise InvalidValue(
                'theme goes with `"mode": "autonomous"`; add it, or write the theme into `prompt`.',
                param="theme",
            )
        if "prompt" not in body.model_fields_set:
            raise MissingField(
                'prompt is missing; give one, or `"mode": "autonomous"` to have it written.',
                param="prompt",
            )
        return
    if "prompt" in body.model_fields_set:
        raise InvalidValue(
            "prompt is written by the artist in this mode; leave it out, and say in `theme` what it"
            " shall be about.",
            param="prompt",
        )
    if body.n not in (None, 1):
        raise InvalidValue(
            f"n: {DRAWN} pictures are drawn in this mode and the better one is kept; leave out `n`,"
            " and send a job for each picture.",
            param="n",
        )
    if body.cache is not None:
        raise InvalidValue(
            "cache: an autonomous job never repeats itself; leave it out.", param="cache"
        )


def as_autonomous(request: JobRequest, theme: str | None) -> JobRequest:
    """The request of a body without a prompt."""
    return replace(request, n=DRAWN, autonomous=True, theme=theme)
