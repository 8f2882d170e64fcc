"""A request while it is in the engine."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.diffusion.batching.cost import steps_to_make
from pipelines.diffusion.families.base import Family
from pipelines.diffusion.families.model import Model
from pipelines.diffusion.families.shared_call import Caller
from pipelines.diffusion.request import PromptReading, Request, Timing
from pipelines.diffusion.trajectory import Trajectory


@dataclass(slots=True, eq=False)
class Entry:
    """A request in the engine; its instants are on the engine's clock (`Timing`).

    Once it has begun it is ``running`` through a family's steps, or a ``caller`` of whole calls.
    """

    request: Request
    model_name: str
    deadline: float | None
    joined: float = 0.0
    model: Model | None = None  # once it is there
    running: Running | None = None
    caller: Caller | None = None
    loaded: float | None = None  # set only if the model had to be awaited
    begun: float = 0.0
    encoded: float = 0.0
    denoised: float | None = None
    passes: int = 0  # of the model, so far
    companions: int = 0  # requests in those passes, itself included
    rows: int = 0  # of a step, once it has begun
    short_at: int = -1  # how many had left when there was no memory for it

    @property
    def background(self) -> bool:
        return self.request.background

    @property
    def has_begun(self) -> bool:
        return self.running is not None or self.caller is not None

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

    def timing(self, decoded: float) -> Timing:
        """Of a request whose picture was there at ``decoded``."""
        if self.caller is not None:
            steps = self.caller.steps_done
        else:
            steps = self.running.trajectory.steps_done if self.running else 0
        return Timing(
            joined=self.joined,
            loaded=self.joined if self.loaded is None else self.loaded,
            begun=self.begun,
            encoded=self.encoded,
            denoised=decoded if self.denoised is None else self.denoised,
            decoded=decoded,
            steps=steps,
            batch=self.companions / self.passes if self.passes else 1.0,
        )

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
