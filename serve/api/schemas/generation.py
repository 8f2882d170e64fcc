"""OpenAI's image generation: the request, with this service's flat extensions, and the answer."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from serve.api.schemas.picture import OutputFormat, PictureBody
from serve.api.schemas.strict import Text

Quality = Literal["auto", "low", "medium", "high", "xhigh", "max", "standard", "hd"]


class GenerationBody(PictureBody):
    """OpenAI's fields; `quality` sets the denoising steps unless they are given."""

    quality: Quality | None = Field(
        None, description="Denoising steps by name; `medium` is the model's own number of them."
    )
    response_format: Literal["b64_json", "url"] | None = Field(
        None, description="Only `b64_json`, the default, for now."
    )
    background: Literal["auto", "opaque", "transparent"] | None = Field(
        None, description="Pictures are opaque; `transparent` is refused."
    )
    moderation: Literal["auto", "low"] | None = Field(None, description="Accepted, without effect.")
    style: Literal["vivid", "natural"] | None = Field(None, description="Accepted, without effect.")
    user: Text | None = Field(None, max_length=512, description="Accepted, without effect.")
    safety_identifier: Text | None = Field(
        None, max_length=512, description="Accepted, without effect."
    )
    stream: bool | None = Field(None, description="Only `false`, the default, for now.")
    partial_images: int | None = Field(None, ge=0, le=3, description="Only 0 for now.")


class GeneratedImage(BaseModel):
    b64_json: str


class TokenDetails(BaseModel):
    image_tokens: int
    text_tokens: int


class Usage(BaseModel):
    """Counted for clients that expect it: a word of the prompt and a 16×16 patch are one token."""

    input_tokens: int
    input_tokens_details: TokenDetails
    output_tokens: int
    output_tokens_details: TokenDetails
    total_tokens: int


class Generation(BaseModel):
    """OpenAI's ImagesResponse."""

    created: int
    data: list[GeneratedImage]
    background: Literal["opaque"] = "opaque"
    output_format: OutputFormat
    quality: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    size: str
    usage: Usage
