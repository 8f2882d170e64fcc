"""Expected failures of the artist."""

from __future__ import annotations

from typing import ClassVar

from serve.errors import ServiceError


class GrammarError(ServiceError):
    """A grammar's file cannot be used; the message names it and the cure."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "grammar_unusable"
    title: ClassVar[str] = "The model's grammar cannot be used"


class PromptTaken(Exception):
    """The tenant's artist has drawn the prompt already."""


class NotDue(Exception):
    """The schedule lets nothing in by now; the message says why."""
