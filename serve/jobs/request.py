"""A client's request, validated and with every default filled in."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any
from uuid import UUID

import numpy as np
import orjson
from numpy.typing import NDArray

from pipelines.diffusion.batching.cost import made_steps
from pipelines.diffusion.request import ControlImage, LoraScale, NoiseScheduler, SamplingParams
from serve.pictures.stored_file import SourceKey

SOURCES = ("image", "mask", "control_image")
"""The fields of a `JobRequest` that name stored pictures."""
# Left out where unset, so that requests of earlier versions keep their digests.
_OPTIONAL = (
    *(*SOURCES, "strength", "control", "loras", "lora_files", "clip_skip"),
    *("hires", "withhold_prompt", "autonomous", "theme"),
)
_UNTOLD = ("withhold_prompt", "autonomous", "theme")
_OPTIONAL_METADATA = tuple(name for name in _OPTIONAL if name not in _UNTOLD)

_UNSEEN = ("priority", "deadline_s", "partial_images")
"""Fields of which the pictures show nothing."""


class UnreadableRequest(Exception):
    """A job's parameters are another version's; the message says which part is unknown."""


@dataclass(frozen=True, slots=True)
class ControlNetUse:
    """A ControlNet by name; the numbers are those of a `ControlImage`."""

    name: str
    scale: float = 1.0
    start: float = 0.0
    end: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HiresFix:
    """The picture is drawn ``scale`` times smaller, enlarged, and drawn again from there.

    ``num_inference_steps`` and ``strength`` are the second pass's, as in ``SamplingParams``. The
    name and the way are AUTOMATIC1111's: models compose well at the size they learnt.
    """

    scale: float
    strength: float
    num_inference_steps: int

    @property
    def made_steps(self) -> int:
        return made_steps(self.num_inference_steps, self.strength)

    def first_size(self, width: int, height: int) -> tuple[int, int]:
        """That of the first pass, in whole pixels."""
        return round(width / self.scale), round(height / self.scale)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRequest:
    """``n`` pictures of one prompt.

    Picture ``i`` is drawn with ``seed + i``, so that each can be drawn again alone.
    ``output_compression`` is the quality 0..100 of lossy formats. A higher ``priority`` is
    claimed first. ``deadline_s`` counts seconds from submission. Of each picture about
    ``partial_images`` previews are made on its way, where any are requested.

    ``image``, ``mask`` and ``control_image`` are the SHA-256, in hex, of stored sources
    (`serve.pictures.source_key`) of the picture's size; ``strength`` goes with the first two, as in
    ``SamplingParams``, ``control`` with the last. ``lora_files`` has the SHA-256 of those ``loras``
    whose files are in storage (`serve.pictures.stored_file.LoraKey`), by name: a LoRA that is
    replaced changes no job that was accepted before. With ``hires`` there are two passes, and
    ``width`` and ``height`` are those of the second. ``withhold_prompt``: the pictures' files do
    not tell what was asked.

    ``autonomous``: the artist writes the prompt, about the ``theme`` if there is one, and of the
    pictures the best is kept (`serve.artist`).
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
    control_image: str | None = None
    control: ControlNetUse | None = None
    loras: tuple[LoraScale, ...] = ()
    lora_files: Mapping[str, str] = field(default_factory=dict)
    clip_skip: int = 0
    hires: HiresFix | None = None
    withhold_prompt: bool = False
    autonomous: bool = False
    theme: str | None = None

    def as_params(self) -> dict[str, Any]:
        """The JSON that ``jobs.params`` keeps; of sources and adapters only those there are.

        A field that is added here belongs to ``_OPTIONAL``: an earlier version reads every
        request that does not use it, and its digest stays what it was.
        """
        params = asdict(self)
        for name in _OPTIONAL:
            if not params[name]:
                del params[name]
        return params

    @classmethod
    def from_params(cls, params: dict[str, Any]) -> JobRequest:
        """What ``as_params`` made, of this version or of an earlier one.

        Raises:
            UnreadableRequest: it has something that this version does not know. To ignore that
                would draw another picture.
        """
        if unknown := sorted(params.keys() - cls.__dataclass_fields__.keys()):
            raise UnreadableRequest(f"it has the field `{unknown[0]}`")
        try:
            control, hires = params.get("control"), params.get("hires")
            typed = {
                "scheduler": NoiseScheduler(params.get("scheduler", NoiseScheduler.DEFAULT)),
                "control": control and ControlNetUse(**control),
                "hires": hires and HiresFix(**hires),
                "loras": tuple(LoraScale(**each) for each in params.get("loras", ())),
                "lora_files": dict(params.get("lora_files", {})),
            }
            return cls(**{**params, **typed})
        except (TypeError, ValueError) as error:
            raise UnreadableRequest(str(error)) from error

    def digest(self) -> bytes:
        """SHA-256 that distinguishes two requests under one Idempotency-Key.

        Which file a LoRA has is nothing that the client sent, nor is the artist's prompt.
        """
        params = self.as_params()
        params.pop("lora_files", None)
        if self.autonomous:
            del params["prompt"]
        return hashlib.sha256(orjson.dumps(params, option=orjson.OPT_SORT_KEYS)).digest()

    def recipe(self, model_path: str) -> bytes:
        """SHA-256 of all that the pictures depend on: of equal recipes they are equal."""
        params = {name: value for name, value in self.as_params().items() if name not in _UNSEEN}
        described = orjson.dumps([model_path, params], option=orjson.OPT_SORT_KEYS)
        return hashlib.sha256(described).digest()

    @property
    def made_steps(self) -> int:
        """Denoising steps that are made, in both passes: fewer with a source."""
        if self.hires is not None:
            return self.num_inference_steps + self.hires.made_steps
        if self.strength is None:
            return self.num_inference_steps
        return made_steps(self.num_inference_steps, self.strength)

    def preview_every(self, default: int) -> int:
        """Denoising steps between previews; ``default`` where no partial pictures are requested."""
        if not self.partial_images:
            return default
        return max(1, self.made_steps // (self.partial_images + 1))

    def sources(self, tenant_id: UUID) -> dict[str, SourceKey]:
        """The keys of the stored pictures that the request names, by field."""
        named = {name: getattr(self, name) for name in SOURCES}
        return {name: SourceKey(tenant_id, each) for name, each in named.items() if each}

    @property
    def versioned_loras(self) -> dict[str, str]:
        """The SHA-256 of each LoRA in storage by the name that the engine has for this file."""
        return {_versioned(name, sha256): sha256 for name, sha256 in self.lora_files.items()}

    def metadata(self, index: int) -> dict[str, Any]:
        """How picture ``index`` is drawn, for its file's metadata; JSON can hold it."""
        prompts = {"prompt": self.prompt, "negative_prompt": self.negative_prompt}
        metadata: dict[str, Any] = {
            "model": self.model,
            **({} if self.withhold_prompt else prompts),
            "width": self.width,
            "height": self.height,
            "num_inference_steps": self.num_inference_steps,
            "guidance_scale": self.guidance_scale,
            "scheduler": self.scheduler.value,
            "seed": self.seed + index,
        }
        params = self.as_params()
        return metadata | {name: params[name] for name in _OPTIONAL_METADATA if name in params}

    def sampling(
        self,
        index: int,
        image: NDArray[np.uint8] | None = None,
        mask: NDArray[np.uint8] | None = None,
        control_image: NDArray[np.uint8] | None = None,
    ) -> SamplingParams:
        """The engine's parameters for picture ``index``; sources have the picture's size.

        With ``hires`` those of the first pass.
        """
        width, height = self.width, self.height
        if self.hires is not None:
            width, height = self.hires.first_size(width, height)
        control = None
        if self.control is not None and control_image is not None:
            use = self.control
            control = ControlImage(use.name, control_image, use.scale, use.start, use.end)
        return SamplingParams(
            prompt=self.prompt,
            negative_prompt=self.negative_prompt,
            width=width,
            height=height,
            num_inference_steps=self.num_inference_steps,
            guidance_scale=self.guidance_scale,
            seed=self.seed + index,
            scheduler=self.scheduler,
            image=image,
            mask=mask,
            strength=1.0 if self.strength is None else self.strength,
            control=control,
            loras=tuple(map(self._versioned, self.loras)),
            clip_skip=self.clip_skip,
        )

    def second_sampling(
        self, index: int, hires: HiresFix, image: NDArray[np.uint8] | None
    ) -> SamplingParams:
        """Those of the second pass, from the enlarged ``image``."""
        return replace(
            self.sampling(index),
            width=self.width,
            height=self.height,
            num_inference_steps=hires.num_inference_steps,
            image=image,
            strength=hires.strength,
        )

    def _versioned(self, lora: LoraScale) -> LoraScale:
        sha256 = self.lora_files.get(lora.name)
        return replace(lora, name=_versioned(lora.name, sha256)) if sha256 else lora


def _versioned(name: str, sha256: str) -> str:
    return f"{name}@{sha256[:16]}"
