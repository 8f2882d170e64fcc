"""What is tracked of one request: its latents on their way from noise to picture."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Conditioning:
    """What steers the denoiser: embeddings of (1, tokens, width).

    Without ``negative_prompt_embeds`` there is no classifier-free guidance.
    """

    prompt_embeds: Tensor
    negative_prompt_embeds: Tensor | None
    guidance_scale: float

    @property
    def rows(self) -> int:
        """How many rows of a batch it takes."""
        return 1 if self.negative_prompt_embeds is None else 2


@dataclass(slots=True)
class Trajectory:
    """Latents of (1, channels, height, width) and all that their next step needs.

    ``scheduler`` is this request's own instance of a diffusers noise scheduler, its timesteps
    set. ``generator`` drew the first latents, and draws the noise that stochastic schedulers
    add. ``steps`` is the number asked for: some schedulers evaluate the model more often.
    """

    conditioning: Conditioning
    latents: Tensor
    scheduler: Any
    generator: torch.Generator
    steps: int
    evaluations: int = 0  # of the model, so far
    _step_options: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        offered = {"eta": 0.0, "generator": self.generator}
        accepted = inspect.signature(self.scheduler.step).parameters
        self._step_options = {name: offered[name] for name in offered if name in accepted}

    @property
    def timestep(self) -> Tensor:
        """The next one, a scalar."""
        timestep: Tensor = self.scheduler.timesteps[self.evaluations]
        return timestep

    @property
    def model_input(self) -> Tensor:
        """The latents as the model wants them at this timestep."""
        scaled: Tensor = self.scheduler.scale_model_input(self.latents, self.timestep)
        return scaled

    @property
    def steps_done(self) -> int:
        """Of the steps asked for; Heun evaluates 2n-1 times in n steps, PNDM n+1 times."""
        return self._steps_after(self.evaluations)

    @property
    def steps_after_next(self) -> int:
        """``steps_done``, once the next evaluation is made."""
        return self._steps_after(self.evaluations + 1)

    @property
    def finished(self) -> bool:
        return self.evaluations == len(self.scheduler.timesteps)

    def advance(self, prediction: Tensor) -> None:
        """One step down the noise, by the model's (1, channels, height, width) prediction."""
        self.latents = self.scheduler.step(
            prediction, self.timestep, self.latents, **self._step_options, return_dict=False
        )[0]
        self.evaluations += 1

    def _steps_after(self, evaluations: int) -> int:
        return evaluations * self.steps // len(self.scheduler.timesteps)
