"""Requests that a pipeline's own call draws together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import torch
from torch import Tensor

from pipelines.diffusion.errors import UnsafePictureError
from pipelines.diffusion.families.pipeline_call import PipelineCall, StepCallback
from pipelines.diffusion.request import SamplingParams
from pipelines.diffusion.trajectory import Conditioning, Trajectory

_PLACES = count()


@dataclass(frozen=True, slots=True)
class Drawn:
    """What a call returns: ``pictures`` of (rows, 3, height, width) from 0 to 1.

    ``refused`` says for each row whether the model's safety checker blackened it.
    """

    pictures: Tensor
    refused: Sequence[bool]


class CalledTrajectory(Trajectory):
    """A request on its way through a pipeline's own call, or waiting for one.

    The call takes the steps of the noise scheduler itself, so that what ``advance`` is given is
    where the latents are already, and after the last step the picture.
    """

    def __init__(
        self, params: SamplingParams, conditioning: Conditioning, scheduler: Any, device: Any
    ) -> None:
        super().__init__(
            conditioning=conditioning,
            latents=torch.empty(0, device=device),
            scheduler=scheduler,
            generator=torch.Generator("cpu"),
            steps=params.num_inference_steps,
        )
        self.params = params
        self.place = next(_PLACES)
        """In the order of arrival."""
        self.call: SharedCall | None = None
        self.alone = False
        """Whether to be called alone, since a call that it shared has raised."""
        self.error: Exception | None = None
        self._done = 0
        self._drawn = False

    @property
    def steps_done(self) -> int:
        """Does not fall where a call is given up and another begins."""
        return self._done

    @property
    def steps_after_next(self) -> int:
        """The call has made the step when the engine asks; without a call there is none."""
        made = 0 if self.call is None else min(self.call.steps, self.steps)
        return max(self._done, made)

    @property
    def finished(self) -> bool:
        return self._drawn

    def advance(self, prediction: Tensor) -> None:
        if self.error is not None:
            raise self.error
        if self.call is None:
            return
        self.latents, self._done = prediction, self.steps_after_next
        if self.call.drawn is not None:
            self._drawn = True
            if self.call.refuses(self):
                raise UnsafePictureError

    def release(self) -> None:
        if self.call is not None:
            self.call.leave(self)


class SharedCall:
    """One call, and who is in it."""

    def __init__(
        self, members: Sequence[CalledTrajectory], call: Callable[[StepCallback], Drawn]
    ) -> None:
        """Each of ``members`` is the row of its place, and starts from its seed."""
        self._rows: list[CalledTrajectory | None] = list(members)
        for each in members:
            each.call = self
            each.generator.manual_seed(each.params.seed)
        self._call = PipelineCall(call)

    @property
    def steps(self) -> int:
        return self._call.steps

    @property
    def over(self) -> bool:
        """Returned, raised or left by all."""
        return self._call.finished

    @property
    def drawn(self) -> Drawn | None:
        """Once the call has returned."""
        drawn: Drawn | None = self._call.output
        return drawn

    def advance(self) -> None:
        """Makes a step.

        If the call raises, whoever was alone in it is to blame; if there were more, each is to
        start over alone. Raises OutOfMemoryError among these, and AcceleratorError always.
        """
        try:
            self._call.advance()
        except torch.AcceleratorError:
            raise
        except Exception as error:
            guilty = error if len(self._rows) == 1 else None
            for each in self._rows:
                if each is not None:
                    each.call, each.alone, each.error = None, True, guilty
            if isinstance(error, torch.OutOfMemoryError) and guilty is None:
                raise

    def seen(self, member: CalledTrajectory) -> Tensor:
        """(1, ...): the member's row of the latents; of the pictures, once there are any."""
        row = self._row(member)
        shown = self._call.latents if self.drawn is None else self.drawn.pictures
        return member.latents if shown is None else shown[row : row + 1]

    def refuses(self, member: CalledTrajectory) -> bool:
        return self.drawn is not None and self.drawn.refused[self._row(member)]

    def leave(self, member: CalledTrajectory) -> None:
        """Its row is drawn to no avail, unless it was the last: then the call ends here."""
        self._rows[self._row(member)] = None
        if not any(each is not None for each in self._rows):
            self._call.close()

    def _row(self, member: CalledTrajectory) -> int:
        return next(i for i, each in enumerate(self._rows) if each is member)
