"""Validation against a model's limits: fills in defaults, refuses what the model cannot draw."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from typing import Self, TypeVar
from uuid import UUID

from pipelines.diffusion.adapters import check_control, check_loras
from pipelines.diffusion.catalog import ModelDescription, describe, find_description
from pipelines.diffusion.errors import ModelLoadError, RequestError
from pipelines.diffusion.request import LoraScale, NoiseScheduler
from pipelines.imaging.errors import ImagingError
from pipelines.imaging.format import PictureFormat, check_quality, check_size
from pipelines.imaging.metadata.embed import check_length
from pipelines.imaging.source import fitted_size
from serve.errors import naming_model
from serve.http.errors import InvalidValue
from serve.jobs.errors import ModelNotFound, ModelPaused
from serve.jobs.request import ControlNetUse, HiresFix, JobRequest
from serve.jobs.schemas import HiresBody, PictureBody
from serve.settings import Settings
from serve.tables import MAX_SEED

Number = TypeVar("Number", int, float)

_RANDOM_SEED = -1  # as front ends send it
MAX_GUIDANCE = 50.0
MAX_PRIORITY = 100
MAX_HIRES_SCALE = 4
MAX_DEADLINE_S = 7 * 24 * 3600.0
_SIZE = re.compile(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})")


class ServedModels:
    """The models that are served; ``descriptions`` are by name, the default one first.

    ``settings`` are the configuration with the models that were added since; ``paused`` says since
    when a model takes no jobs, and ``lora_files`` which LoRAs were uploaded: by model and name, the
    SHA-256 of the file.
    """

    def __init__(self, settings: Settings, descriptions: Mapping[str, ModelDescription]) -> None:
        self.settings = settings
        self.descriptions = descriptions
        self.paused: Mapping[str, datetime | None] = {}
        self.lora_files: Mapping[str, Mapping[str, str]] = {}
        self.look: Callable[[], Awaitable[None]] = _keep
        """Brings all of this up to date; set by `serve.models.models.Models`."""

    @classmethod
    def read(cls, settings: Settings) -> Self:
        """Reads the configuration in each model's folder.

        Raises:
            ModelLoadError: a model's folder is not one.
        """
        return cls(settings, {name: describe_model(settings, name) for name in settings.served})

    def named(self, name: str | None) -> str:
        """The model of that name or alias; None is for the default one.

        Raises:
            ModelNotFound: no such model is served.
        """
        model = self.settings.model.name if name is None else self.settings.served_name(name)
        if model not in self.descriptions:
            served = " or ".join(map(repr, self.descriptions))
            raise ModelNotFound(
                f"The model {model[:100]!r} is not served here; use {served}.", param="model"
            )
        return model

    async def limits_for(self, body: PictureBody) -> Limits:
        """As ``limits``. A LoRA that the configuration has not is as it is now, whichever ingress
        took it.

        Raises:
            ModelNotFound, ModelPaused: as ``limits`` does.
            DatabaseUnavailable: it cannot be looked up.
        """
        configured = self.settings.served[self.named(body.model)].loras
        if any(each.name not in configured for each in body.loras or ()):
            await self.look()
        return self.limits(body.model)

    def limits(self, name: str | None) -> Limits:
        """Of the model of that name or alias; None is for the default one.

        Raises:
            ModelNotFound: no such model is served.
            ModelPaused: it takes no jobs.
        """
        model = self.named(name)
        if model in self.paused:
            since = self.paused[model]
            told = f" since {since:%Y-%m-%dT%H:%M:%SZ}" if since else ""
            raise ModelPaused(
                f"The model {model!r} takes no jobs{told}; use another, or wait.", param="model"
            )
        files = self.lora_files.get(model, {})
        return Limits(self.settings, model, self.descriptions[model], files)

    def loras(self, model: str) -> list[str]:
        """What requests may name: those of the configuration, and then those uploaded."""
        return [*self.settings.served[model].loras, *self.lora_files.get(model, ())]


async def _keep() -> None:
    """Where nothing changes."""


def describe_model(settings: Settings, name: str) -> ModelDescription:
    """What the model's folder says of itself. Raises ModelLoadError, naming the model."""
    source = settings.served[name].path
    with naming_model(name):
        try:
            return describe(find_description(source))
        except OSError as error:
            raise ModelLoadError(
                f"{source!r} cannot be read ({error.strerror}); correct its path or permissions."
            ) from error


class Limits:
    """The bounds of one model under one configuration. Each refusal names what is possible."""

    def __init__(
        self,
        settings: Settings,
        model: str,
        description: ModelDescription,
        lora_files: Mapping[str, str] | None = None,
    ) -> None:
        """``lora_files`` are those of uploaded LoRAs: the SHA-256 by name."""
        self.model = model
        self._lora_files = lora_files or {}
        self._description = description
        self._bounds = settings.served[model]
        self._jobs = settings.jobs

    @property
    def default_steps(self) -> int:
        """Denoising steps where the request has none."""
        return self._bounds.default_steps

    def accept(
        self,
        body: PictureBody,
        *,
        size: tuple[int, int],
        default_steps: int | None = None,
        seed_for: str | None = None,
        partial_images: int = 0,
        without_prompt: bool = False,
    ) -> JobRequest:
        """The request with every field filled in.

        ``seed_for`` makes the seed of a request that names none: one that is sent again under
        the same Idempotency-Key must be the same request. ``without_prompt``: it may be empty.

        Raises:
            InvalidValue: a value is out of bounds.
        """
        description, bounds = self._description, self._bounds
        n = _within("n", body.n, 1, 1, self._jobs.max_images)
        scheduler = body.scheduler or NoiseScheduler.DEFAULT
        if scheduler not in description.schedulers:
            choices = ", ".join(description.schedulers)
            raise InvalidValue(
                f"scheduler must be one of {choices} for this model.", param="scheduler"
            )
        file_format, quality = PictureFormat(body.output_format or "png"), body.output_compression
        with _as_invalid_value("size"):
            check_size(file_format, *size)
        if file_format.takes_quality or quality != 100:  # OpenAI's default, which png may have
            with _as_invalid_value("output_compression"):
                check_quality(file_format, quality)
        if not body.prompt.strip() and not without_prompt:
            raise InvalidValue("prompt must not be empty.", param="prompt")
        negative_prompt = body.negative_prompt or ""
        most_chars = self._jobs.max_prompt_chars
        for param, text in (("prompt", body.prompt), ("negative_prompt", negative_prompt)):
            if len(text) > most_chars:
                raise InvalidValue(
                    f"{param} must have {most_chars} characters at most; this has {len(text)}.",
                    param=param,
                )
        fewest, most = description.steps_range(scheduler)
        most = min(most, bounds.max_steps)
        default_steps = max(fewest, min(default_steps or bounds.default_steps, most))
        steps = _within(
            "num_inference_steps", body.num_inference_steps, default_steps, fewest, most
        )
        guidance_scale = _within(
            "guidance_scale", body.guidance_scale, bounds.default_guidance_scale, 0.0, MAX_GUIDANCE
        )
        seed = None if body.seed == _RANDOM_SEED else body.seed
        seed = _within("seed", seed, _seed(seed_for), 0, MAX_SEED - n)
        clip_skip = body.clip_skip or 0
        loras = tuple(LoraScale(each.name, each.scale) for each in body.loras or ())
        control = None
        with _as_invalid_value():
            description.check_clip_skip(clip_skip)
            check_loras(loras, [*bounds.loras, *self._lora_files])
            if body.control is not None:
                control = ControlNetUse(
                    body.control.name, body.control.scale, body.control.start, body.control.end
                )
                check_control(**asdict(control), known=bounds.controlnets)
        priority = _within("priority", body.priority, 0, -MAX_PRIORITY, MAX_PRIORITY)
        if body.deadline_s is not None and not 0 < body.deadline_s <= MAX_DEADLINE_S:
            raise InvalidValue(
                f"deadline_s must be more than 0 and at most {MAX_DEADLINE_S:g} seconds.",
                param="deadline_s",
            )
        request = JobRequest(
            model=self.model,
            prompt=body.prompt,
            negative_prompt=negative_prompt,
            n=n,
            width=size[0],
            height=size[1],
            num_inference_steps=steps,
            guidance_scale=guidance_scale,
            seed=seed,
            scheduler=scheduler,
            clip_skip=clip_skip,
            withhold_prompt=bool(body.withhold_prompt),
            loras=loras,
            lora_files={
                each.name: self._lora_files[each.name]
                for each in loras
                if each.name in self._lora_files
            },
            control=control,
            output_format=file_format.value,
            output_compression=quality if file_format.takes_quality else None,
            priority=priority,
            deadline_s=body.deadline_s,
            partial_images=partial_images,
            hires=self._hires(body.hires, size, steps, (fewest, most)),
        )
        if request.hires is not None and control is not None:
            raise InvalidValue(
                "hires draws without a control; leave one of them out.", param="hires"
            )
        with _as_invalid_value("prompt"):
            check_length(request.metadata(n - 1), file_format)
        return request

    def _hires(
        self,
        body: HiresBody | None,
        size: tuple[int, int],
        steps: int,
        steps_range: tuple[int, int],
    ) -> HiresFix | None:
        """``steps`` are the first pass's."""
        if body is None:
            return None
        if not 1 < body.scale <= MAX_HIRES_SCALE:
            raise InvalidValue(
                f"hires.scale must be above 1 and at most {MAX_HIRES_SCALE}.", param="hires.scale"
            )
        param = "hires.num_inference_steps"
        steps = _within(param, body.num_inference_steps, steps, *steps_range)
        hires = HiresFix(scale=body.scale, strength=body.strength, num_inference_steps=steps)
        if not self._description.takes_image or self._description.needs_mask:
            raise InvalidValue(
                "hires: this model cannot draw from its own first picture; leave it out.",
                param="hires",
            )
        try:
            self._description.check_strength(steps, body.strength)
        except RequestError as error:
            raise InvalidValue(f"hires.strength: {error}", param="hires.strength") from error
        width, height = hires.first_size(*size)
        multiple = self._description.size_multiple
        if width % multiple or height % multiple or not min(width, height):
            raise InvalidValue(
                f"hires.scale: the first pass would be {width}x{height} pixels; both must be"
                f" multiples of {multiple}. Take another scale or size.",
                param="hires.scale",
            )
        with _as_invalid_value("hires.scale"):
            self._description.check_size(width, height)
        return hires

    def size(
        self, size: str | None, width: int | None = None, height: int | None = None
    ) -> tuple[int, int]:
        """Width and height, given as such, or as ``auto`` or ``WxH``."""
        if width is not None or height is not None:
            if size not in (None, "auto"):
                raise InvalidValue("Give `size`, or `width` and `height`, not both.", param="size")
            if width is None or height is None:
                missing = "width" if width is None else "height"
                raise InvalidValue("`width` and `height` go together.", param=missing)
            return self._drawable(width, height, ("width", "height"))
        if size in (None, "auto"):
            return self._description.default_width, self._description.default_height
        match = _SIZE.fullmatch(size)
        if match is None:
            raise InvalidValue("size must be `auto` or like `512x512`.", param="size")
        return self._drawable(int(match[1]), int(match[2]), ("size", "size"))

    def size_from(
        self, size: str | None, source: tuple[int, int], output_format: str
    ) -> tuple[int, int]:
        """Width and height of ``WxH``, or for ``auto`` those of a source, as nearly as they can be.

        No more pixels than the model was made for: beyond, pictures repeat themselves.
        """
        if size not in (None, "auto"):
            return self.size(size)
        model = self._description
        longest = PictureFormat(output_format).longest_side
        return fitted_size(
            *source,
            multiple=model.size_multiple,
            max_pixels=min(model.default_width * model.default_height, self._bounds.max_pixels),
            max_side=min(model.max_side or longest, longest),
        )

    def check_source(self, *, image: bool, mask: bool = False) -> None:
        """Refuses to draw with or without a source and a mask where the model cannot.

        Raises:
            InvalidValue: it cannot.
        """
        with _as_invalid_value():
            self._description.check_source(image=image, mask=mask)

    def strength(self, strength: float | None, default: float, steps: int) -> float:
        """Above 0 to 1, so that at least one of so many steps is made.

        Raises:
            InvalidValue: it isn't.
        """
        if strength is None:
            return default if self._description.made_steps(steps, default) else 1.0
        with _as_invalid_value():
            self._description.check_strength(steps, strength)
        return strength

    def _drawable(self, width: int, height: int, params: tuple[str, str]) -> tuple[int, int]:
        multiple = self._description.size_multiple
        budget = self._bounds.max_pixels
        for pixels, param in ((width, params[0]), (height, params[1])):
            if pixels > budget:  # before numbers of thousands of digits are multiplied and printed
                raise InvalidValue(f"{param} must be {budget} pixels at most.", param=param)
            if pixels < multiple or pixels % multiple:
                raise InvalidValue(
                    f"{param}: width and height must be positive multiples of {multiple} pixels.",
                    param=param,
                )
        with _as_invalid_value(params[0]):
            self._description.check_size(width, height)
        if width * height > budget:
            raise InvalidValue(
                f"{params[0]}: width times height must be {budget} pixels at most;"
                f" {width}x{height} are {width * height}.",
                param=params[0],
            )
        return width, height


@contextmanager
def _as_invalid_value(param: str | None = None) -> Iterator[None]:
    """Raise what the engine or the encoder refuses as InvalidValue, with the same message.

    ``param`` is the field at fault, where the error does not name one.
    """
    try:
        yield
    except (RequestError, ImagingError) as error:
        param = getattr(error, "param", None) or param
        message = str(error)
        if param is not None and param not in message:
            message = f"{param}: {message}"
        raise InvalidValue(message, param=param) from error


def seed_name(tenant_id: UUID, idempotency_key: str | None) -> str | None:
    """Identifies the request under its Idempotency-Key, for its seed."""
    return f"{tenant_id}/{idempotency_key}" if idempotency_key else None


def _seed(name: str | None) -> int:
    if name is None:
        return secrets.randbelow(2**32)
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")


def _within(
    param: str, value: Number | None, default: Number, least: Number, most: Number
) -> Number:
    if value is None:
        return default
    if not least <= value <= most:
        raise InvalidValue(f"{param} must be from {least} to {most}.", param=param)
    return value
