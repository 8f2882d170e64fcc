"""Judges as an operator would write them, given to the service by their import path."""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray

from serve.moderation.classifier import Verdict


class Strict:
    """Refuses prompts that speak of war, and pictures that are darker than light."""

    def classify_prompt(self, text: str) -> Verdict:
        return Verdict("war" not in text, "war")

    def classify_picture(self, rgb: NDArray[np.uint8]) -> Verdict:
        return Verdict(bool(rgb.mean() >= 128), "dark")


class Broken:
    """Raises."""

    def classify_prompt(self, text: str) -> Verdict:
        raise RuntimeError(text)

    def classify_picture(self, rgb: NDArray[np.uint8]) -> Verdict:
        raise RuntimeError(str(rgb.shape))


class Slow:
    """Never is done in time: not before the test is over."""

    over = threading.Event()
    judged = 0

    def classify_prompt(self, text: str) -> Verdict:
        return self._judge()

    def classify_picture(self, rgb: NDArray[np.uint8]) -> Verdict:
        return self._judge()

    def _judge(self) -> Verdict:
        self.over.wait(30)
        type(self).judged += 1
        return Verdict(True)


class Half:
    """Judges prompts alone."""

    def classify_prompt(self, text: str) -> Verdict:
        return Verdict(True)


class Demanding:
    """Cannot be made without an argument."""

    def __init__(self, weights: str) -> None:
        self.weights = weights
