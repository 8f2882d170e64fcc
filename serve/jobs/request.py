"""What a client asked for, validated and with every default filled in."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import Any

import orjson

from pipelines.diffusion.request import NoiseScheduler, SamplingParams


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRequest:
    """``n`` pictures of one prompt.

    Picture ``i`` is drawn with ``seed + i``, so that each can be drawn again alone.
    ``output_compression`` is the quality 0..100 of lossy formats. A higher ``priority`` is
    claimed first. ``deadline_s`` counts seconds from submission. Of each picture about
    ``partial_images`` previews are made on its way, where any are asked for.
    """

    model: str
    prompt: str
    negative_prompt: str = ""
    n: int = 1
    width: int
    height: int
    num_inference_steps: int
    guidance_scale: float
    seed: int
    scheduler: NoiseScheduler = NoiseScheduler.DEFAULT
    output_format: str = "png"
    output_compression: int | None = None
    priority: int = 0
    deadline_s: float | None = None
    partial_images: int = 0

    def as_params(self) -> dict[str, Any]:
        """The JSON that ``jobs.params`` keeps."""
        return asdict(self)

    @classmethod
    def from_params(cls, params: dict[str, Any]) -> JobRequest:
        return cls(**{**params, "scheduler": NoiseScheduler(params["scheduler"])})

    def digest(self) -> bytes:
        """SHA-256 that tells two requests under one Idempotency-Key apart."""
        return hashlib.sha256(orjson.dumps(asdict(self), option=orjson.OPT_SORT_KEYS)).digest()

    def preview_every(self, default: int) -> int:
        """Denoising steps between previews; ``default`` where no partial pictures are asked."""
        if not self.partial_images:
            return default
        return max(1, self.num_inference_steps // (self.partial_images + 1))

    def sampling(self, index: int) -> SamplingParams:
        """What the engine is asked for picture ``index``."""
        return SamplingParams(
            prompt=self.prompt,
            negative_prompt=self.negative_prompt,
            width=self.width,
            height=self.height,
            num_inference_steps=self.num_inference_steps,
            guidance_scale=self.guidance_scale,
            seed=self.seed + index,
            scheduler=self.scheduler,
        )
