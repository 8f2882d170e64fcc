"""What is asked of the engine, and what it tells. Free of torch: every process can import it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
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
    FLOW_MATCH_EULER = "flow_match_euler"


@dataclass(frozen=True, slots=True)
class LoraScale:
    """A LoRA adapter by the name it was loaded under; ``scale`` 0 is without, 1 as trained."""

    name: str
    scale: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class ControlImage:
    """What a ControlNet follows: a (height, width, 3) uint8 picture, at the request's size.

    It acts from ``start`` to ``end``, shares of the trajectory, weighted by ``scale``.
    """

    controlnet: str
    image: NDArray[np.uint8]
    scale: float = 1.0
    start: float = 0.0
    end: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SamplingParams:
    """What was asked: one picture.

    ``width`` and ``height`` are pixels, multiples of the model's ``size_multiple``.
    A ``guidance_scale`` of 1 or less means no classifier-free guidance (and no use of
    ``negative_prompt``), as in diffusers.

    With ``image``, (height, width, 3) uint8, the picture starts from it: ``strength``, above 0 to
    1, is the share of the steps that are made. With ``mask`` as well, (height, width) uint8, only
    what is 128 or more there is painted anew.

    ``clip_skip`` is diffusers': so many of the last layers of the CLIP text encoders are left out
    when ``prompt`` is read, at most the model's ``max_clip_skip``.
    """

    prompt: str
    negative_prompt: str = ""
    width: int
    height: int
    num_inference_steps: int
    guidance_scale: float
    seed: int
    scheduler: NoiseScheduler = NoiseScheduler.DEFAULT
    image: NDArray[np.uint8] | None = None
    mask: NDArray[np.uint8] | None = None
    strength: float = 0.8
    control: ControlImage | None = None
    loras: tuple[LoraScale, ...] = ()
    clip_skip: int = 0


@dataclass(frozen=True, slots=True)
class Request:
    """One picture on its way through the engine.

    ``preview_every`` is in steps, 0 for none. ``deadline_s`` counts from when it is added: a
    request that is not done by then leaves at the next step as ``Expired``. ``model`` is a name
    in the engine's pool; None for its default. ``lora_files`` has those of its LoRAs that the model
    was not configured with: they are loaded when a request first names them.

    One in the ``background`` takes no step while any other request is in. It is ``Displaced`` where
    another needs what it holds.
    """

    id: str
    params: SamplingParams
    preview_every: int = 0
    deadline_s: float | None = None
    model: str | None = None
    lora_files: Mapping[str, Path] = field(default_factory=dict)
    background: bool = False


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
class TextReading:
    """How many tokens a text has, and how many of them, from its beginning, were read."""

    tokens: int
    read: int

    @property
    def cut(self) -> bool:
        return self.read < self.tokens


@dataclass(frozen=True, slots=True)
class PromptReading:
    """How much of a request's texts the text encoders read; None of what is not known or used.

    Of several encoders the one counts that read the text whole, else the one that read most.
    """

    prompt: TextReading | None = None
    negative_prompt: TextReading | None = None


@dataclass(frozen=True, slots=True)
class Timing:
    """When a request reached each stage, in seconds of the engine's clock.

    A whole call encodes and decodes where nobody sees it: there ``encoded`` is ``begun``, and where
    the pipeline does not tell its steps, ``denoised`` is ``decoded`` and ``steps`` is 0.
    """

    joined: float
    loaded: float
    """Its model was there; ``joined`` if it was there already."""
    begun: float
    """It had a place in a step. From then on its LoRAs are applied and its prompts encoded."""
    encoded: float
    denoised: float
    decoded: float
    """Its picture was on the host."""
    steps: int
    """Denoising steps that it took."""
    batch: float
    """The mean number of requests in them."""


@dataclass(frozen=True, slots=True)
class Result:
    """The finished picture: (height, width, 3) uint8, RGB."""

    request_id: str
    image: NDArray[np.uint8]
    timing: Timing
    reading: PromptReading = PromptReading()

    @property
    def seconds(self) -> float:
        """From its beginning to its picture."""
        return self.timing.decoded - self.timing.begun


@dataclass(frozen=True, slots=True)
class Failure:
    """The request failed by its own fault or the device's; its batch-mates go on.

    ``unsafe``: its picture was drawn, and the model's safety checker refused it. ``error`` is set
    where nobody expected it; whoever takes the failure logs it, as they know whose picture it was.
    """

    request_id: str
    reason: str
    unsafe: bool = False
    error: Exception | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Expired:
    """The request's deadline passed before its picture was done."""

    request_id: str


@dataclass(frozen=True, slots=True)
class Displaced:
    """The background request left, for another that needs its model's place or its memory."""

    request_id: str


Output = Progress | Result | Failure | Expired | Displaced


@dataclass(frozen=True, slots=True)
class Step:
    """A denoising step: so many ``requests`` of one model and size took it together.

    ``seconds`` are those of the forward pass, without encoding and decoding.
    """

    model: str
    width: int
    height: int
    requests: int
    seconds: float


@dataclass(frozen=True, slots=True)
class EngineStats:
    """Counters since the engine's start. ``request_steps / steps`` is the mean batch in requests.

    Of those that are in, ``active`` have begun, ``waiting`` have not, ``decoding`` are drawn, and
    those in the ``background`` are none of these.
    """

    steps: int = 0
    request_steps: int = 0
    finished: int = 0
    failed: int = 0
    aborted: int = 0
    expired: int = 0
    active: int = 0
    waiting: int = 0
    decoding: int = 0
    background: int = 0
    denoise_seconds: float = 0.0
