"""What moderation refuses, and what keeps it from judging."""

from __future__ import annotations

from typing import ClassVar

from serve.errors import ServiceError


class ContentPolicyViolation(ServiceError):
    """A prompt or a picture that the operator does not want; which rule says so is not told."""

    status: ClassVar[int] = 400
    code: ClassVar[str] = "content_policy_violation"
    title: ClassVar[str] = "Content policy violation"


class ModerationUnavailable(ServiceError):
    """The classifier failed, or took too long; the same may be judged later."""

    status: ClassVar[int] = 503
    code: ClassVar[str] = "moderation_unavailable"
    title: ClassVar[str] = "Moderation does not answer"


class ModerationSetupError(ValueError):
    """The block-list or the classifier cannot be used; the message names the cure."""
