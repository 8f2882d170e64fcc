"""The operator's own classifier of prompts and pictures."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Protocol

from serve.moderation.errors import ModerationSetupError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Verdict:
    """``reason`` goes to the log alone: clients could learn from it how to evade the policy."""

    allowed: bool
    reason: str = ""


class Classifier(Protocol):
    """Made once in every ingress, which judges prompts, and every post-process replica, which
    judges pictures; so load each side's weights with its first call.

    Both methods are called from threads, several at a time. A call that raises counts as failed.
    """

    def classify_prompt(self, text: str) -> Verdict:
        """Whether the prompt may be drawn."""

    def classify_picture(self, rgb: NDArray[np.uint8]) -> Verdict:
        """Whether the picture, (height, width, 3) and read-only, may be kept."""


def load_classifier(path: str) -> Classifier:
    """An instance of `package.module:Class`, made without arguments.

    Raises:
        ModerationSetupError: there is no such class, or it cannot be made.
    """
    module, _, name = path.partition(":")
    try:
        classifier: Classifier = getattr(import_module(module), name)()
    except Exception as error:
        raise ModerationSetupError(
            f"SFUMATO_MODERATION__CLASSIFIER: {path} cannot be made:"
            f" {type(error).__name__}: {error}. Give package.module:Class."
        ) from error
    for method in ("classify_prompt", "classify_picture"):
        if not callable(getattr(classifier, method, None)):
            raise ModerationSetupError(
                f"SFUMATO_MODERATION__CLASSIFIER: {path} has no method {method}; see"
                " docs/moderation.md."
            )
    return classifier
