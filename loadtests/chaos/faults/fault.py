"""What every fault is: something done to a running service, and undone."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Protocol

from loadtests.chaos.service import Service


class Load(Protocol):
    """The clients, for a fault that is a burst of them."""

    def burst(self, seconds: float, factor: float) -> int: ...


@dataclass(frozen=True, slots=True)
class Scene:
    """What a fault may touch."""

    service: Service
    load: Load
    random: random.Random
    """Seeded by the schedule: which replica, how many bytes."""


class Fault(ABC):
    """One object an injection; ``heal`` may be called though ``inject`` failed."""

    @abstractmethod
    async def inject(self, scene: Scene, seconds: float) -> dict[str, Any]:
        """Begin; what the history shall tell of it. ``seconds`` is how long it will hold."""

    async def heal(self, scene: Scene) -> dict[str, Any]:
        """Undo what does not pass by itself."""
        return {}
