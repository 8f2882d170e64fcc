"""What is tracked of one request: its latents on their way from noise to picture."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor

from pipelines.diffusion.request import LoraScale, PromptReading, TextReading


@dataclass(frozen=True, slots=True)
class TextEmbedding:
    """A prompt as the denoiser reads it: ``tokens`` of (1, length, width).

    ``pooled`` of (1, width) sums the prompt up for the families that ask for it. ``reading`` says
    how much of the text is in it, where there was one.
    """

    tokens: Tensor
    pooled: Tensor | None = None
    reading: TextReading | None = None

    @property
    def nbytes(self) -> int:
        return self.tokens.nbytes + (0 if self.pooled is None else self.pooled.nbytes)


@dataclass(frozen=True, slots=True)
class Conditioning:
    """What steers the denoiser. Without ``negative`` there is no classifier-free guidance."""

    positive: TextEmbedding
    negative: TextEmbedding | None
    guidance_scale: float
    loras: tuple[LoraScale, ...] = ()

    @property
    def reading(self) -> PromptReading:
        negative = None if self.negative is None else self.negative.reading
        return PromptReading(self.positive.reading, negative)

    @property
    def rows(self) -> int:
        """How many rows of a batch it takes."""
        return 1 if self.negative is None else 2


@dataclass(frozen=True, slots=True)
class Inpainting:
    """What is kept of a source picture.

    ``mask`` of (1, 1, height, width) is 1 where to paint; ``source`` and ``noise`` are latents.
    """

    mask: Tensor
    source: Tensor
    noise: Tensor


@dataclass(frozen=True, slots=True)
class Control:
    """A ControlNet by name, its picture of (1, 3, height, width) from 0 to 1, and its weight.

    It acts from ``start`` to ``end``, shares of the trajectory.
    """

    controlnet: str
    picture: Tensor
    scale: float
    start: float
    end: float


@dataclass(slots=True)
class Trajectory:
    """Latents of (1, channels, height, width) and all that their next step needs.

    ``scheduler`` is this request's own instance of a diffusers noise scheduler, its timesteps
    set. ``generator`` drew the first latents, and draws the noise that stochastic schedulers
    add. ``steps`` is the number to be made: some schedulers evaluate the model more often.
    ``begin`` is where in the scheduler's timesteps it starts: beyond 0 with a source picture.
    ``model_channels`` of (1, n, height, width) are appended to the latents for the model alone.
    """

    conditioning: Conditioning
    latents: Tensor
    scheduler: Any
    generator: torch.Generator
    steps: int
    begin: int = 0
    inpainting: Inpainting | None = None
    model_channels: Tensor | None = None
    control: Control | None = None
    evaluations: int = 0  # of the model, so far
    _step_options: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        offered = {"eta": 0.0, "generator": self.generator}
        accepted = inspect.signature(self.scheduler.step).parameters
        self._step_options = {name: offered[name] for name in offered if name in accepted}

    @property
    def timestep(self) -> Tensor:
        """The next one, a scalar."""
        timestep: Tensor = self.scheduler.timesteps[self.begin + self.evaluations]
        return timestep

    @property
    def scaled_latents(self) -> Tensor:
        """The latents as the noise scheduler wants the model to see them at this timestep."""
        if not hasattr(self.scheduler, "scale_model_input"):
            return self.latents
        scaled: Tensor = self.scheduler.scale_model_input(self.latents, self.timestep)
        return scaled

    @property
    def model_input(self) -> Tensor:
        """(1, model's channels, height, width)."""
        if self.model_channels is None:
            return self.scaled_latents
        return torch.cat([self.scaled_latents, self.model_channels], dim=1)

    @property
    def control_scale(self) -> float:
        """Of the ControlNet at the next evaluation; 0 where it does not act."""
        if self.control is None:
            return 0.0
        done, total = self.evaluations, self._evaluations_in_all
        acts = done / total >= self.control.start and (done + 1) / total <= self.control.end
        return self.control.scale if acts else 0.0

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
        return self.evaluations == self._evaluations_in_all

    @property
    def nbytes(self) -> int:
        """What it holds between steps; a noise scheduler may keep predictions."""
        tensors = [self.latents, *_tensors(self.conditioning), *_tensors(self.inpainting)]
        tensors += _tensors(self.control) + _tensors(self.model_channels)
        for value in vars(self.scheduler).values():
            tensors += _tensors(value)
        return sum(tensor.nbytes for tensor in tensors)

    def advance(self, prediction: Tensor) -> None:
        """One step down the noise, by the model's (1, channels, height, width) prediction."""
        self.latents = self.scheduler.step(
            prediction, self.timestep, self.latents, **self._step_options, return_dict=False
        )[0]
        self.evaluations += 1
        if self.inpainting is not None:
            self.latents = self._restore(self.inpainting)

    def _restore(self, kept: Inpainting) -> Tensor:
        """Puts the source back outside the mask, as noisy as the latents are now."""
        source = kept.source
        if not self.finished:
            source = noised(self.scheduler, source, kept.noise, self.timestep[None].cpu())
        return (1 - kept.mask) * source + kept.mask * self.latents

    @property
    def _evaluations_in_all(self) -> int:
        return len(self.scheduler.timesteps) - self.begin

    def _steps_after(self, evaluations: int) -> int:
        return evaluations * self.steps // self._evaluations_in_all


def noised(scheduler: Any, latents: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
    """Clean latents as they are at a timestep of shape (1,)."""
    if hasattr(scheduler, "scale_noise"):  # flow matching
        result: Tensor = scheduler.scale_noise(latents, timestep, noise)
    else:
        result = scheduler.add_noise(latents, noise, timestep)
    return result


def _tensors(value: Any) -> list[Tensor]:
    """Those that it is, or holds."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, list | tuple):
        return [tensor for each in value for tensor in _tensors(each)]
    if is_dataclass(value):
        return [t for each in fields(value) for t in _tensors(getattr(value, each.name))]
    return []
