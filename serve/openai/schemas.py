"""Bodies, answers and events in OpenAI's shape, with this service's flat extensions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self, get_args

from pydantic import BaseModel, Field

from pipelines.diffusion.request import NoiseScheduler
from serve.http.errors import InvalidValue
from serve.http.fields import StrictBody, Text
from serve.jobs.limits import ServedModels
from serve.jobs.request import JobRequest
from serve.jobs.schemas import STRENGTH, OutputFormat, PictureBody, edit_strength
from serve.pictures.schemas import JobWarning

_ONE_PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGO4IW0DAAL+ATABIwWfAAAAAElFTkSuQmCC"
)

Quality = Literal["auto", "low", "medium", "high", "xhigh", "max", "standard", "hd"]


class GenerationBody(PictureBody):
    """OpenAI's fields; `quality` sets the denoising steps unless they are given."""

    quality: Quality | None = Field(
        None, description="Denoising steps by name; `medium` is the model's own number of them."
    )
    response_format: Literal["b64_json", "url"] | None = Field(
        None, description="`b64_json`, the default, or `url`: signed, good for an hour or as set."
    )
    background: Literal["auto", "opaque", "transparent"] | None = Field(
        None, description="Pictures are opaque; `transparent` is refused."
    )
    moderation: Literal["auto", "low"] | None = Field(
        None,
        description="Accepted, without effect: `low` does not turn the operator's moderation off.",
    )
    style: Literal["vivid", "natural"] | None = Field(None, description="Accepted, without effect.")
    user: Text | None = Field(None, max_length=512, description="Accepted, without effect.")
    safety_identifier: Text | None = Field(
        None, max_length=512, description="Accepted, without effect."
    )
    stream: bool | None = Field(
        None,
        description="Whether each picture comes as soon as it is done, as Server-Sent Events.",
        examples=[True],
    )
    partial_images: int | None = Field(
        None,
        ge=0,
        le=3,
        description="Of a stream: pictures on the way to each one, 3 at most.",
        examples=[2],
    )

    def check_answer(self) -> None:
        """Check what the answer shall be.

        Raises:
            InvalidValue: it cannot be so.
        """
        if self.background == "transparent":
            raise InvalidValue(
                "background `transparent` is not possible; use `auto` or `opaque`.",
                param="background",
            )
        if self.partial_images and not self.stream:
            raise InvalidValue(
                "partial_images come in a stream only; set `stream` as well.",
                param="partial_images",
            )
        if self.stream and self.response_format == "url":
            raise InvalidValue(
                "A stream carries the pictures themselves; leave out response_format `url`.",
                param="response_format",
            )


AnswerQuality = Literal["low", "medium", "high", "xhigh", "max"]

_STEPS: dict[Quality, float] = {
    "low": 0.5,
    "medium": 1.0,
    "standard": 1.0,
    "high": 1.5,
    "hd": 1.5,
    "xhigh": 2.0,
    "max": 3.0,
}
_PATCH = 16


def steps_of(quality: Quality | None, default: int) -> int:
    """Denoising steps of a quality, where ``default`` are those of a medium one."""
    return max(1, round(default * _STEPS.get(quality or "medium", 1.0)))


def answer_quality(body: GenerationBody | VariationBody) -> AnswerQuality | None:
    """The quality as OpenAI's answers name it; None where steps set it, or for a variation."""
    if isinstance(body, VariationBody) or body.num_inference_steps is not None:
        return None
    match body.quality:
        case None | "auto" | "standard":
            return "medium"
        case "hd":
            return "high"
        case quality:
            return quality


class GeneratedImage(BaseModel):
    """A picture, or where to fetch it."""

    b64_json: str | None = Field(None, examples=[_ONE_PIXEL])
    url: str | None = None


class TokenDetails(BaseModel):
    image_tokens: int = Field(examples=[16])
    text_tokens: int = Field(examples=[3])


class Usage(BaseModel):
    """Text tokens are those that the model read of the prompts, a 16×16 patch is an image token."""

    input_tokens: int = Field(examples=[19])
    input_tokens_details: TokenDetails
    output_tokens: int = Field(examples=[16])
    output_tokens_details: TokenDetails = Field(examples=[{"image_tokens": 16, "text_tokens": 0}])
    total_tokens: int = Field(examples=[35])

    @classmethod
    def of(cls, job_request: JobRequest, pictures: int, text_tokens: int | None) -> Self:
        """Of so many pictures of the request.

        Words stand for ``text_tokens`` that are not known: not every pipeline tells them.
        """
        words = len(job_request.prompt.split()) if text_tokens is None else text_tokens
        patches = -(-job_request.width // _PATCH) * -(-job_request.height // _PATCH)
        source = patches if job_request.image else 0
        return cls(
            input_tokens=words + source,
            input_tokens_details=TokenDetails(image_tokens=source, text_tokens=words),
            output_tokens=pictures * patches,
            output_tokens_details=TokenDetails(image_tokens=pictures * patches, text_tokens=0),
            total_tokens=words + source + pictures * patches,
        )


WARNINGS_FIELD: Any = Field(
    None,
    description="What the model did not read of the prompts; left out where it read all. An"
    " addition of this service.",
)


class Generation(BaseModel):
    """OpenAI's ImagesResponse."""

    created: int = Field(examples=[1_795_499_102])
    data: list[GeneratedImage]
    background: Literal["opaque"] = "opaque"
    output_format: OutputFormat
    quality: AnswerQuality | None = Field(None, examples=["medium"])
    size: str = Field(examples=["64x64"])
    usage: Usage
    warnings: list[JobWarning] | None = WARNINGS_FIELD


class EditBody(GenerationBody):
    """OpenAI's fields, and the extensions of a generation."""

    size: str | None = Field(
        None,
        description="`auto`, the picture's own shape, or as in `512x512`, which it then covers.",
    )
    input_fidelity: Literal["high", "low"] | None = Field(
        None, description="How much of the picture stays; a word for `strength`."
    )
    strength: float | None = Field(None, description=STRENGTH, examples=[0.9])

    def default_strength(self, *, mask: bool) -> float:
        """Where none is given."""
        if self.input_fidelity == "high":
            return 0.8 if mask else 0.5
        return edit_strength(mask=mask)


class PictureReference(StrictBody):
    """A picture that comes within JSON."""

    other_names: ClassVar[Mapping[str, str]] = {
        "b64_json": "image_url",
        "file_id": "image_url",
        "url": "image_url",
    }

    image_url: str = Field(
        description="The file as a data URL, `data:image/png;base64,…`; addresses are not fetched.",
        examples=[f"data:image/png;base64,{_ONE_PIXEL}"],
    )


class EditJson(EditBody):
    """An edit as JSON, its files as data URLs."""

    images: list[PictureReference] = Field(
        min_length=1, description="PNG, JPEG or WebP. One picture is taken."
    )
    mask: PictureReference | None = Field(
        None, description="PNG as large as the image; where its alpha is 0 the picture is edited."
    )


class VariationBody(PictureBody):
    """OpenAI's fields, and the extensions of a generation; a prompt is one of them."""

    quality: ClassVar[None] = None
    stream: ClassVar[None] = None
    partial_images: ClassVar[None] = None
    """OpenAI's variations have none of these."""

    prompt: Text = Field("", description="Where the variations shall lead; empty by default.")
    size: str | None = Field(
        None,
        description="`auto`, the picture's own shape, or as in `512x512`, which it then covers.",
    )
    response_format: Literal["b64_json", "url"] | None = Field(
        None, description="`b64_json`, the default, or `url`: signed, good for an hour or as set."
    )
    user: Text | None = Field(None, max_length=512, description="Accepted, without effect.")
    strength: float | None = Field(
        None, description=f"{STRENGTH} 0.6 where left out.", examples=[0.3]
    )

    def default_strength(self, *, mask: bool) -> float:
        """Where none is given."""
        return 0.6


Call = Literal["image_generation", "image_edit"]


class PictureEvent(BaseModel):
    """What both events have."""

    b64_json: str = Field(examples=[_ONE_PIXEL])
    background: Literal["opaque"] = "opaque"
    created_at: int = Field(description="Unix seconds.", examples=[1_795_499_102])
    output_format: OutputFormat
    quality: AnswerQuality | Literal["auto"] = Field(
        description="`auto` where steps were given.", examples=["medium"]
    )
    size: str = Field(examples=["64x64"])
    image_index: int = Field(
        description="Which of the `n` pictures; an addition of this service.", examples=[0]
    )


class PartialImage(PictureEvent):
    """A picture on its way, from the live latents: smooth, in the final one's size and format."""

    type: Literal["image_generation.partial_image", "image_edit.partial_image"]
    partial_image_index: int = Field(
        description="Counts the picture's partial ones from 0.", examples=[0]
    )


class CompletedImage(PictureEvent):
    """A finished picture."""

    type: Literal["image_generation.completed", "image_edit.completed"]
    usage: Usage
    warnings: list[JobWarning] | None = WARNINGS_FIELD


OWNER = "sfumato"
CREATED = 1_767_225_600
"""OpenAI's clients want a time; a served folder has none to tell, so all name this one: 2026."""


class ModelOut(BaseModel):
    """The first four fields are OpenAI's."""

    id: str = Field(examples=["sfumato-embedded"])
    object: Literal["model"] = "model"
    created: int = CREATED
    owned_by: str = OWNER
    pool: str = Field(description="The kind of replica that draws with it.", examples=["default"])
    aliases: list[str] = Field(
        description="Other names that `model` may give it.", examples=[["dall-e-3"]]
    )
    loras: list[str] = Field(description="What `loras` may name.", examples=[["ink", "pastel"]])
    controlnets: list[str] = Field(description="What `control` may name.", examples=[["edges"]])
    schedulers: list[NoiseScheduler] = Field(description="What `scheduler` may be.")
    default_size: str = Field(
        description="What `auto` is, where no picture is sent.", examples=["64x64"]
    )
    size_multiple: int = Field(
        description="Width and height are multiples of it, in pixels.", examples=[8]
    )
    max_pixels: int = Field(description="Width times height at most.", examples=[1_048_576])
    max_side: int | None = Field(description="The longer of them at most, where that is bounded.")
    default_steps: int = Field(examples=[20])
    max_steps: int = Field(description="A noise scheduler may take fewer.", examples=[150])
    default_guidance_scale: float = Field(examples=[3.0])
    takes_image: bool = Field(description="Whether it can edit and vary a picture.")
    needs_image: bool = Field(description="Whether it draws from a picture only.", examples=[False])
    needs_mask: bool = Field(description="Whether that needs a mask as well.", examples=[False])
    max_clip_skip: int = Field(description="The most that `clip_skip` may be.", examples=[3])
    output_formats: list[OutputFormat] = Field(examples=[["png", "webp", "jpeg", "avif"]])

    @classmethod
    def of(cls, name: str, models: ServedModels) -> Self:
        settings, model = models.settings, models.descriptions[name]
        served = settings.served[name]
        return cls(
            id=name,
            pool=settings.pool_of[name],
            aliases=list(served.aliases),
            loras=models.loras(name),
            controlnets=list(served.controlnets),
            schedulers=list(model.schedulers),
            default_size=f"{model.default_width}x{model.default_height}",
            size_multiple=model.size_multiple,
            max_pixels=served.max_pixels,
            max_side=model.max_side,
            default_steps=served.default_steps,
            max_steps=served.max_steps,
            default_guidance_scale=served.default_guidance_scale,
            takes_image=model.takes_image,
            needs_image=model.needs_image,
            needs_mask=model.needs_mask,
            max_clip_skip=model.max_clip_skip,
            output_formats=list(get_args(OutputFormat)),
        )


class ModelList(BaseModel):
    object: Literal["list"] = "list"
    data: list[ModelOut]
