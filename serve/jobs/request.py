"""What a client asked for, validated and with every default filled in."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID

import numpy as np
import orjson
from numpy.typing import NDArray

from pipelines.diffusion.batching.cost import made_steps
from pipelines.diffusion.request import NoiseScheduler, SamplingParams
from serve.jobs.source_key import SourceKey


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRequest:
    """``n`` pictures of one prompt.

    Picture ``i`` is drawn with ``seed + i``, so that each can be drawn again alone.
    ``output_compression`` is the quality 0..100 of lossy formats. A higher ``priority`` is
    claimed first. ``deadline_s`` counts seconds from submission. Of each picture about
    ``partial_images`` previews are made on its way, where any are asked for.

    ``image`` and ``mask`` are the SHA-256, in hex, of stored sources (`serve.jobs.source_key`) of
    the picture's size; ``strength`` goes with them, as in ``SamplingParams``.
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
    image: str | None = None
    mask: str | None = None
    strength: float | None = None

    def as_params(self) -> dict[str, Any]:
        """The JSON that ``jobs.params`` keeps; of a source it tells only where there is one."""
        params = asdict(self)
        for name in ("image", "mask", "strength"):
            if params[name] is None:
                del params[name]
        return params

    @classmethod
    def from_params(cls, params: dict[str, Any]) -> JobRequest:
        return cls(**{**params, "scheduler": NoiseScheduler(params["scheduler"])})

    def digest(self) -> bytes:
        """SHA-256 that tells two requests under one Idempotency-Key apart."""
        return hashlib.sha256(orjson.dumps(self.as_params(), option=orjson.OPT_SORT_KEYS)).digest()

    @property
    def made_steps(self) -> int:
        """Denoising steps that a source leaves to be made; all, without one."""
        if self.strength is None:
            return self.num_inference_steps
        return made_steps(self.num_inference_steps, self.strength)

    def preview_every(self, default: int) -> int:
        """Denoising steps between previews; ``default`` where no partial pictures are asked."""
        if not self.partial_images:
            return default
        return max(1, self.made_steps // (self.partial_images + 1))

    def sources(self, tenant_id: UUID) -> list[SourceKey]:
        """Where the source and its mask lie, in this order; of those that there are."""
        return [SourceKey(tenant_id, each) for each in (self.image, self.mask) if each is not None]

    def sampling(
        self,
        index: int,
        image: NDArray[np.uint8] | None = None,
        mask: NDArray[np.uint8] | None = None,
    ) -> SamplingParams:
        """What the engine is asked for picture ``index``; the pixels are of this one's size."""
        return SamplingParams(
            prompt=self.prompt,
            negative_prompt=self.negative_prompt,
            width=self.width,
            height=self.height,
            num_inference_steps=self.num_inference_steps,
            guidance_scale=self.guidance_scale,
            seed=self.seed + index,
            scheduler=self.scheduler,
            image=image,
            mask=mask,
            strength=1.0 if self.strength is None else self.strength,
        )
