"""A request while it is in the engine."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.diffusion.batching.cost import steps_to_make
from pipelines.diffusion.families.base import Family
from pipelines.diffusion.families.model import Model
from pipelines.diffusion.families.shared_call import Caller
from pipelines.diffusion.request import PromptReading, Request
from pipelines.diffusion.trajectory import Trajectory


@dataclass(slots=True, eq=False)
class Entry:
    """A request in the engine; ``deadline`` and ``begun`` are on the engine's clock.

    Once it has begun it is ``running`` through a family's steps, or a ``caller`` of whole calls.
    """

    request: Request
    model_name: str
    deadline: float | None
    model: Model | None = None  # once it is there
    running: Running | None = None
    caller: Caller | None = None
    begun: float = 0.0
    rows: int = 0  # of a step, from then on
    short_at: int = -1  # how many had left when there was no memory for it

    @property
    def steps_left(self) -> int:
        """After the one that is being made."""
        if self.caller is not None:
            return self.request.params.num_inference_steps - self.caller.steps_done
        if self.running is not None:
            return self.running.trajectory.steps - self.running.trajectory.steps_after_next
        return self.request.params.num_inference_steps

    @property
    def reading(self) -> PromptReading:
        """Of its prompts, once it is drawn."""
        if self.running is not None:
            return self.running.trajectory.conditioning.reading
        return (self.caller and self.caller.reading) or PromptReading()

    @property
    def ends_with_next(self) -> bool:
        """Whether its next step is the last."""
        if self.running is None:
            return steps_to_make(self.request.params) <= 1
        return self.steps_left <= 0


@dataclass(frozen=True, slots=True)
class Running:
    """What the verbs of a family hand on: an entry that has begun."""

    entry: Entry
    family: Family
    trajectory: Trajectory

    @property
    def request(self) -> Request:
        return self.entry.request
