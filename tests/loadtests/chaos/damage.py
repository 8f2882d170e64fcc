"""The register of damages: each breaks one promise in a clean run."""

from __future__ import annotations

from collections.abc import Callable

from tests.loadtests.chaos.clean_run import Run

Break = Callable[[Run], None]

DAMAGES: list[tuple[str, str, Break]] = []
"""Invariant, what its violation says, and what breaks it."""


def damage(invariant: str, says: str) -> Callable[[Break], Break]:
    """Enter what breaks ``invariant``; the violation must say ``says``."""

    def keep(function: Break) -> Break:
        DAMAGES.append((invariant, says, function))
        return function

    return keep
