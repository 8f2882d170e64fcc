"""OpenAI's image generation: the request, with this service's flat extensions, and the answer."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, Field

from serve.http.strict import Text
from serve.jobs.picture import OutputFormat, PictureBody
from serve.jobs.request import JobRequest
from serve.pictures.warning import JobWarning

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
        None, description="Whether each picture comes as soon as it is done, as Server-Sent Events."
    )
    partial_images: int | None = Field(
        None, ge=0, le=3, description="Of a stream: pictures on the way to each one, 3 at most."
    )


ToldQuality = Literal["low", "medium", "high", "xhigh", "max"]

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


def told_quality(body: GenerationBody) -> ToldQuality | None:
    """The quality as OpenAI's answers name it; None where the steps were given."""
    if body.num_inference_steps is not None:
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

    b64_json: str | None = None
    url: str | None = None


class TokenDetails(BaseModel):
    image_tokens: int
    text_tokens: int


class Usage(BaseModel):
    """Text tokens are those that the model read of the prompts, a 16×16 patch is an image token."""

    input_tokens: int
    input_tokens_details: TokenDetails
    output_tokens: int
    output_tokens_details: TokenDetails
    total_tokens: int

    @classmethod
    def of(cls, asked: JobRequest, pictures: int, text_tokens: int | None) -> Self:
        """Of so many pictures of the request.

        Words stand for ``text_tokens`` that are not known: not every pipeline tells them.
        """
        words = len(asked.prompt.split()) if text_tokens is None else text_tokens
        patches = -(-asked.width // _PATCH) * -(-asked.height // _PATCH)
        source = patches if asked.image else 0
        return cls(
            input_tokens=words + source,
            input_tokens_details=TokenDetails(image_tokens=source, text_tokens=words),
            output_tokens=pictures * patches,
            output_tokens_details=TokenDetails(image_tokens=pictures * patches, text_tokens=0),
            total_tokens=words + source + pictures * patches,
        )


TOLD_WARNINGS: Any = Field(
    None,
    description="What the model did not read of the prompts; left out where it read all. An"
    " addition of this service.",
)


class Generation(BaseModel):
    """OpenAI's ImagesResponse."""

    created: int
    data: list[GeneratedImage]
    background: Literal["opaque"] = "opaque"
    output_format: OutputFormat
    quality: ToldQuality | None = None
    size: str
    usage: Usage
    warnings: list[JobWarning] | None = TOLD_WARNINGS
