"""Judges prompts when a job is submitted, and pictures before they are stored."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

import structlog

from serve.moderation.blocklist import Blocklist
from serve.moderation.classifier import Verdict, load_classifier
from serve.moderation.errors import ModerationUnavailable, refused_picture, refused_prompt
from serve.settings import ModerationSettings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

T = TypeVar("T")

log = structlog.get_logger(__name__)

_THREADS = 4  # of its own: a classifier that hangs must not block the process's other threads
_RETRY_S = 5


class Moderation:
    """The operator's block-list and classifier; each is optional."""

    def __init__(self, settings: ModerationSettings) -> None:
        """
        Raises:
            ModerationSetupError: one of the two cannot be used.
        """
        self._settings = settings
        self._blocklist = Blocklist.read(settings.blocklist) if settings.blocklist else None
        self._classifier = load_classifier(settings.classifier) if settings.classifier else None
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="moderation")

    def screen(self, prompt: str, negative_prompt: str, theme: str = "") -> None:
        """Look all of them up in the block-list.

        Raises:
            ContentPolicyViolation: a rule matches.
        """
        if self._blocklist is None:
            return
        # The theme first: it may be at fault for a prompt that the client has not sent.
        texts = {"theme": theme, "prompt": prompt, "negative_prompt": negative_prompt}
        for param, text in texts.items():
            if self._blocklist.blocks(text):
                log.info("moderation.blocked", param=param)
                raise refused_prompt(param)

    async def judge_prompt(self, prompt: str, param: str = "prompt") -> None:
        """Ask the classifier about a prompt, which the client has sent as ``param``.

        Raises:
            ContentPolicyViolation: it refuses the prompt.
            ModerationUnavailable: it failed, and the settings say that this is a refusal.
        """
        classifier = self._classifier
        if classifier and not await self._allows("prompt", classifier.classify_prompt, prompt):
            raise refused_prompt(param)

    async def judge_picture(self, rgb: NDArray[np.uint8]) -> None:
        """Ask the classifier about a picture, (height, width, 3).

        Raises:
            ContentPolicyViolation: it refuses the picture.
            ModerationUnavailable: it failed, and the settings say that this is a refusal.
        """
        classifier = self._classifier
        if classifier and not await self._allows("picture", classifier.classify_picture, rgb):
            raise refused_picture()

    async def _allows(self, side: str, classify: Callable[[T], Verdict], subject: T) -> bool:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                verdict = await loop.run_in_executor(self._threads, classify, subject)
            allowed, reason = bool(verdict.allowed), verdict.reason
        except Exception as error:
            log.exception("moderation.failed", side=side, error=type(error).__name__)
            if self._settings.on_failure == "allow":
                return True
            raise ModerationUnavailable(
                f"The {side} could not be checked against the content policy; try again later.",
                retry_after_s=_RETRY_S,
            ) from error
        if not allowed:
            log.info("moderation.refused", side=side, reason=reason)
        return allowed
