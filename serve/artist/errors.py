"""Expected failures of the artist."""

from __future__ import annotations

from typing import ClassVar

from serve.errors import ServiceError


class GrammarError(ServiceError):
    """A grammar's file cannot be used; the message names it and the cure."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "grammar_unusable"
    title: ClassVar[str] = "The model's grammar cannot be used"


class NothingNew(ServiceError):
    """No prompt was found that was not drawn before."""

    status: ClassVar[int] = 409
    code: ClassVar[str] = "nothing_new"
    title: ClassVar[str] = "Nothing new to draw"
    example = (
        "All 200 prompts about 'owl' that the artist thought of were drawn within the last 30"
        " days; leave out the theme, or take another."
    )


class PromptTaken(Exception):
    """The tenant's artist has drawn the prompt already."""


class NotDue(Exception):
    """The schedule lets nothing in by now; the message says why."""
