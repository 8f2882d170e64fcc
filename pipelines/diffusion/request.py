"""What is asked of the engine, and what it tells. Free of torch: every process can import it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class NoiseScheduler(StrEnum):
    """A noise scheduler by the name that clients use; ``DEFAULT`` is the model folder's own."""

    DEFAULT = "default"
    DDIM = "ddim"
    EULER = "euler"
    EULER_ANCESTRAL = "euler_ancestral"
    DPMPP_2M = "dpmpp_2m"
    DPMPP_2M_KARRAS = "dpmpp_2m_karras"
    UNIPC = "unipc"
    LCM = "lcm"


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """What was asked: one picture.

    ``width`` and ``height`` are pixels, multiples of the model's ``size_multiple``.
    A ``guidance_scale`` of 1 or less means no classifier-free guidance (and no use of
    ``negative_prompt``), as in diffusers.
    """

    prompt: str
    negative_prompt: str = ""
    width: int
    height: int
    num_inference_steps: int
    guidance_scale: float
    seed: int
    scheduler: NoiseScheduler = NoiseScheduler.DEFAULT


@dataclass(frozen=True, slots=True)
class Request:
    """One picture on its way through the engine; ``preview_every`` is in steps, 0 for none."""

    id: str
    params: SamplingParams
    preview_every: int = 0


@dataclass(frozen=True, slots=True)
class Progress:
    """``step`` of ``steps`` denoising steps are done.

    ``preview``, when there is one, is (height, width, 3) uint8 at the latents' resolution.
    """

    request_id: str
    step: int
    steps: int
    preview: NDArray[np.uint8] | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """The finished picture: (height, width, 3) uint8, RGB. ``seconds`` from joining to leaving."""

    request_id: str
    image: NDArray[np.uint8]
    seconds: float


@dataclass(frozen=True, slots=True)
class Failure:
    """The request failed by its own fault or the device's; its batch-mates go on."""

    request_id: str
    reason: str


Output = Progress | Result | Failure


@dataclass(frozen=True, slots=True)
class EngineStats:
    """Counters since the engine's start. ``rows / steps`` is the mean batch fill in requests."""

    steps: int = 0
    rows: int = 0
    finished: int = 0
    failed: int = 0
    aborted: int = 0
    active: int = 0
    waiting: int = 0
    denoise_seconds: float = 0.0
