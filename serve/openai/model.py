"""OpenAI's model list, and beside its fields what a request may ask of each model."""

from __future__ import annotations

from typing import Literal, Self, get_args

from pydantic import BaseModel, Field

from pipelines.diffusion.catalog import ModelDescription
from pipelines.diffusion.request import NoiseScheduler
from serve.jobs.picture import OutputFormat
from serve.settings import FurtherModelSettings

OWNER = "sfumato"
CREATED = 1_767_225_600
"""OpenAI's clients want a time; a served folder has none to tell, so all name this one: 2026."""


class ModelOut(BaseModel):
    """The first four fields are OpenAI's."""

    id: str
    object: Literal["model"] = "model"
    created: int = CREATED
    owned_by: str = OWNER
    aliases: list[str] = Field(description="Other names that `model` may give it.")
    loras: list[str] = Field(description="What `loras` may name.")
    controlnets: list[str] = Field(description="What `control` may name.")
    schedulers: list[NoiseScheduler] = Field(description="What `scheduler` may be.")
    default_size: str = Field(description="What `auto` is, where no picture is sent.")
    size_multiple: int = Field(description="Width and height are multiples of it, in pixels.")
    max_pixels: int = Field(description="Width times height at most.")
    max_side: int | None = Field(description="The longer of them at most, where that is bounded.")
    default_steps: int
    max_steps: int = Field(description="A noise scheduler may take fewer.")
    default_guidance_scale: float
    takes_image: bool = Field(description="Whether it can edit and vary a picture.")
    needs_image: bool = Field(description="Whether it draws from a picture only.")
    needs_mask: bool = Field(description="Whether that needs a mask as well.")
    max_clip_skip: int = Field(description="The most that `clip_skip` may be.")
    output_formats: list[OutputFormat]

    @classmethod
    def of(cls, name: str, model: ModelDescription, settings: FurtherModelSettings) -> Self:
        return cls(
            id=name,
            aliases=list(settings.aliases),
            loras=list(settings.loras),
            controlnets=list(settings.controlnets),
            schedulers=list(model.schedulers),
            default_size=f"{model.default_width}x{model.default_height}",
            size_multiple=model.size_multiple,
            max_pixels=settings.max_pixels,
            max_side=model.max_side,
            default_steps=settings.default_steps,
            max_steps=settings.max_steps,
            default_guidance_scale=settings.default_guidance_scale,
            takes_image=model.takes_image,
            needs_image=model.needs_image,
            needs_mask=model.needs_mask,
            max_clip_skip=model.max_clip_skip,
            output_formats=list(get_args(OutputFormat)),
        )


class ModelList(BaseModel):
    object: Literal["list"] = "list"
    data: list[ModelOut]
