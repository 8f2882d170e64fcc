"""Pictures as the engine has them before they are rounded to bytes."""

from __future__ import annotations

import pytest
from torch import Tensor

from pipelines.diffusion import engine


def keep_pictures(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """(1, 3, height, width) each, in the order of their ends; what comes is appended."""
    kept: list[Tensor] = []
    to_bytes = engine._to_bytes

    def keep(picture: Tensor) -> object:
        kept.append(picture)
        return to_bytes(picture)

    monkeypatch.setattr(engine, "_to_bytes", keep)
    return kept
