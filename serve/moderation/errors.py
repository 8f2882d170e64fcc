"""Refusals of moderation, and its failures."""

from __future__ import annotations

from typing import ClassVar

from serve.errors import ServiceError

_AGAINST = "against this service's content policy"


class ContentPolicyViolation(ServiceError):
    """A prompt or a picture that the operator does not want. The client is not told which rule
    refused it."""

    status: ClassVar[int] = 400
    code: ClassVar[str] = "content_policy_violation"
    title: ClassVar[str] = "Content policy violation"


def refused_prompt(param: str) -> ContentPolicyViolation:
    """Refuse the text of the field ``param``."""
    return ContentPolicyViolation(
        f"The {param} is {_AGAINST}; change it and try again.", param=param
    )


def refused_picture() -> ContentPolicyViolation:
    """The same answer, whether a classifier or a model's safety checker refused it."""
    return ContentPolicyViolation(
        f"The picture that was drawn is {_AGAINST}; change the prompt, or try another seed."
    )


class ModerationUnavailable(ServiceError):
    """The classifier failed, or took too long; a later try may succeed."""

    status: ClassVar[int] = 503
    code: ClassVar[str] = "moderation_unavailable"
    title: ClassVar[str] = "Moderation does not answer"
    example = "The prompt could not be checked against the content policy; try again later."


class ModerationSetupError(ValueError):
    """The block-list or the classifier cannot be used; the message names the cure."""
