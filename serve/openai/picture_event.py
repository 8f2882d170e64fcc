"""What a stream of pictures tells, as OpenAI names it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from serve.jobs.picture import OutputFormat
from serve.openai.generation import TOLD_WARNINGS, ToldQuality, Usage
from serve.pictures.warning import JobWarning

Call = Literal["image_generation", "image_edit"]


class PictureEvent(BaseModel):
    """What both events have."""

    b64_json: str
    background: Literal["opaque"] = "opaque"
    created_at: int = Field(description="Unix seconds.")
    output_format: OutputFormat
    quality: ToldQuality | Literal["auto"] = Field(description="`auto` where steps were given.")
    size: str
    image_index: int = Field(description="Which of the `n` pictures; an addition of this service.")


class PartialImage(PictureEvent):
    """A picture on its way, from the live latents: smooth, in the final one's size and format."""

    type: Literal["image_generation.partial_image", "image_edit.partial_image"]
    partial_image_index: int = Field(description="Counts the picture's partial ones from 0.")


class CompletedImage(PictureEvent):
    """A finished picture."""

    type: Literal["image_generation.completed", "image_edit.completed"]
    usage: Usage
    warnings: list[JobWarning] | None = TOLD_WARNINGS
