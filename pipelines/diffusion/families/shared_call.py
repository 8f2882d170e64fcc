"""Requests that a pipeline's own call draws together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pipelines.diffusion.errors import UnsafePictureError
from pipelines.diffusion.families.pipeline_call import PipelineCall, StepCallback
from pipelines.diffusion.request import PromptReading, SamplingParams


@dataclass(frozen=True, slots=True)
class Drawn:
    """What a call returns: ``pictures`` of (rows, 3, height, width) from 0 to 1.

    ``refused`` says for each row whether the model's safety checker blackened it, ``readings`` how
    much of its prompts was read.
    """

    pictures: Tensor
    refused: Sequence[bool]
    readings: Sequence[PromptReading]


@dataclass(slots=True, eq=False)
class Caller:
    """A request that waits for a call, or is in one.

    ``scheduler`` is the noise scheduler that it asked for.
    """

    id: str
    params: SamplingParams
    scheduler: Any
    steps_done: int = 0
    """Does not fall where a call is given up and another begins."""
    alone: bool = False
    """Whether to be called alone, since a call that it shared has raised."""
    call: SharedCall | None = None
    reading: PromptReading | None = None
    """Of its prompts, once it is drawn."""

    def leave(self) -> None:
        """Aborted, failed or drawn: nothing more comes of it."""
        if self.call is not None:
            self.call.leave(self)


@dataclass(frozen=True, slots=True)
class Turn:
    """What a step of a call brought ``caller``.

    ``picture`` is (1, 3, height, width). ``progressed`` is False where a call that began anew has
    not come as far as the last.
    """

    caller: Caller
    progressed: bool = False
    picture: Tensor | None = None
    error: Exception | None = None


class SharedCall:
    """One call, and who is in it."""

    def __init__(self, callers: Sequence[Caller], call: Callable[[StepCallback], Drawn]) -> None:
        """Each of ``callers`` is the row of its place."""
        self._rows: list[Caller | None] = list(callers)
        for each in callers:
            each.call = self
        self._call = PipelineCall(call)

    @property
    def over(self) -> bool:
        """Returned, raised or left by all."""
        return self._call.finished

    def advance(self) -> list[Turn]:
        """Makes a step.

        If the call raises, whoever was alone in it is to blame; if there were more, each is to
        start over alone. Raises OutOfMemoryError among these, and AcceleratorError always.
        """
        try:
            self._call.advance()
        except torch.AcceleratorError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, its request is told
            return self._give_up(error)
        return [self._turn(row, each) for row, each in enumerate(self._rows) if each is not None]

    def leave(self, caller: Caller) -> None:
        """Its row is drawn to no avail, unless it was the last: then the call ends here."""
        self._rows[self._rows.index(caller)] = None
        if not any(self._rows):
            self._call.close()

    def _turn(self, row: int, caller: Caller) -> Turn:
        drawn: Drawn | None = self._call.output
        if drawn is None:
            done = min(self._call.steps, caller.params.num_inference_steps)
            progressed = done > caller.steps_done
            caller.steps_done = max(done, caller.steps_done)
            return Turn(caller, progressed)
        caller.reading = drawn.readings[row]
        if drawn.refused[row]:
            return Turn(caller, error=UnsafePictureError())
        return Turn(caller, picture=drawn.pictures[row : row + 1])

    def _give_up(self, error: Exception) -> list[Turn]:
        callers = [each for each in self._rows if each is not None]
        for each in callers:
            each.call, each.alone = None, True
        if len(self._rows) == 1:
            return [Turn(each, error=error) for each in callers]
        if isinstance(error, torch.OutOfMemoryError):
            raise error
        return []
