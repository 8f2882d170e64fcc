"""Jobs as clients send and see them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal, Self
from uuid import UUID

from pydantic import Field

from pipelines.diffusion.request import NoiseScheduler
from serve.http.fields import RowOut, StrictBody, Text
from serve.http.page import Listing, Page
from serve.jobs.why import Why
from serve.pictures.schemas import EXAMPLE_PARAMS, ImageOut, JobWarning, warnings_of
from serve.tables import Job, JobState

_IMAGE_ID = "019ab2f4-6c1f-7b44-8e21-90d4a6f2c713"

OutputFormat = Literal["png", "webp", "jpeg", "avif"]

_OTHER_NAMES = {
    "text": "prompt",
    "negative": "negative_prompt",
    "model_id": "model",
    "model_name": "model",
    "batch_size": "n",
    "n_iter": "n",
    "num_images": "n",
    "num_images_per_prompt": "n",
    "num_outputs": "n",
    "number_of_images": "n",
    "samples": "n",
    "width": "size",
    "height": "size",
    "aspect_ratio": "size",
    "image_size": "size",
    "resolution": "size",
    "inference_steps": "num_inference_steps",
    "num_steps": "num_inference_steps",
    "sampling_steps": "num_inference_steps",
    "steps": "num_inference_steps",
    "cfg": "guidance_scale",
    "cfg_scale": "guidance_scale",
    "guidance": "guidance_scale",
    "sampler": "scheduler",
    "sampler_index": "scheduler",
    "sampler_name": "scheduler",
    "sampling_method": "scheduler",
    "lora": "loras",
    "controlnet": "control",
    "format": "output_format",
    "image_format": "output_format",
    "compression": "output_compression",
    "image": "images",
    "image_url": "images",
    "denoise": "strength",
    "denoising_strength": "strength",
    "image_strength": "strength",
    "preview_images": "partial_images",
    "enable_hr": "hires",
    "hires_fix": "hires",
    "user_id": "user",
}
"""Of other services and front ends."""


class LoraBody(StrictBody):
    """A LoRA and how much of it."""

    other_names: ClassVar[Mapping[str, str]] = {"strength": "scale", "weight": "scale"}

    name: str = Field(description="One of the model's `loras`, as `/v1/models` lists them.")
    scale: float = Field(1.0, description="-10 to 10: 0 is without it, 1 as it was trained.")


class ControlBody(StrictBody):
    """A ControlNet, the picture that it follows, and how much."""

    other_names: ClassVar[Mapping[str, str]] = {"strength": "scale", "weight": "scale"}

    name: str = Field(description="One of the model's `controlnets`, as `/v1/models` lists them.")
    image: str | None = Field(
        None,
        description="The id of an earlier picture, or a PNG, JPEG or WebP file as"
        " `data:image/png;base64,…`. It is made to cover the size that is drawn.",
    )
    scale: float = Field(1.0, description="-10 to 10: 0 is without it, 1 as it was trained.")
    start: float = Field(0.0, description="Share of the steps from which it acts.")
    end: float = Field(1.0, description="Share of the steps up to which it acts.")


class HiresBody(StrictBody):
    """The picture is drawn smaller first, enlarged, and drawn again from there (hires fix)."""

    other_names: ClassVar[Mapping[str, str]] = {
        "denoising_strength": "strength",
        "hr_scale": "scale",
        "upscale": "scale",
        "steps": "num_inference_steps",
        "hr_second_pass_steps": "num_inference_steps",
    }

    scale: float = Field(
        2.0,
        description="How many times smaller the first pass is: above 1 to 4. `size` is that of the"
        " finished picture.",
    )
    strength: float = Field(
        0.5, description="Above 0 to 1: the share of the steps that the second pass makes."
    )
    num_inference_steps: int | None = Field(
        None, description="Denoising steps of the second pass; those of the first if left out."
    )


class PictureBody(StrictBody):
    """What is left out, or null, takes the service's default."""

    other_names: ClassVar[Mapping[str, str]] = _OTHER_NAMES

    prompt: Text = Field(description="What the picture shows.", examples=["a red heart"])
    negative_prompt: Text | None = Field(
        None, description="What the picture must not show.", examples=["text, frame"]
    )
    model: Text | None = Field(
        None,
        description="One of the names or aliases that `/v1/models` lists.",
        examples=["sfumato-embedded"],
    )
    n: int | None = Field(None, description="How many pictures; 1 where left out.", examples=[4])
    size: str | None = Field(
        None, description="`auto`, or width and height in pixels as in `512x512`."
    )
    num_inference_steps: int | None = Field(None, description="Denoising steps.", examples=[30])
    guidance_scale: float | None = Field(
        None,
        description="How closely the prompt is followed; 1 or less turns guidance off.",
        examples=[5.0],
    )
    seed: int | None = Field(
        None,
        description="Picture `i` is drawn with `seed + i`; random where left out or -1.",
        examples=[7],
    )
    scheduler: Annotated[NoiseScheduler, Field(strict=False)] | None = Field(
        None,
        description="The noise scheduler; `default` is the model's own.",
        examples=["dpmpp_2m"],
    )
    clip_skip: int | None = Field(
        None,
        description="Last layers of the CLIP text encoders that are left out when the prompt is"
        " read; 0 where left out. For models whose `max_clip_skip` is above 0.",
        examples=[1],
    )
    loras: list[LoraBody] | None = Field(
        None,
        description="LoRAs that are added, each once.",
        examples=[[{"name": "ink", "scale": 0.7}]],
    )
    control: ControlBody | None = Field(
        None,
        description="What steers the shapes.",
        examples=[{"name": "edges", "image": _IMAGE_ID, "scale": 0.8, "end": 0.6}],
    )
    hires: HiresBody | None = Field(
        None,
        description="Two passes, for pictures larger than the model was made for. For models that"
        " draw from pictures.",
        examples=[{"scale": 2, "strength": 0.5}],
    )
    output_format: OutputFormat | None = Field(
        None, description="File format; PNG by default.", examples=["webp"]
    )
    output_compression: int | None = Field(
        None,
        description="Quality of WebP, JPEG and AVIF, 0 to 100; PNG is lossless and takes none.",
        examples=[90],
    )
    cache: Literal["allow"] | None = Field(
        None,
        description="`allow`: if your tenant had the very same pictures drawn before, their job is"
        " answered, and nothing is drawn or charged. It takes a `seed`: without one all pictures"
        " differ.",
        examples=["allow"],
    )
    withhold_prompt: bool | None = Field(
        None,
        description="Whether the pictures' files leave out `prompt` and `negative_prompt`. A tenant"
        " may be set to do so always.",
        examples=[True],
    )
    priority: int | None = Field(
        None,
        description="-100 to 100; a higher one is drawn first. 0 where left out.",
        examples=[5],
    )
    deadline_s: float | None = Field(
        None,
        description="Seconds from now after which the pictures are of no use.",
        examples=[60],
    )


class JobBody(PictureBody):
    """A job asked for; `size` or `width` and `height`, the model's own where left out."""

    prompt: Text = Field(
        "",
        description="What the picture shows; left out in the mode `autonomous`.",
        examples=["a red heart"],
    )
    mode: Literal["autonomous"] | None = Field(
        None,
        description="`autonomous`: the artist writes the prompt, two pictures are drawn and"
        " charged, and the better one is kept. `why` explains it.",
    )
    theme: Text | None = Field(
        None,
        max_length=200,
        description="What an autonomous job is about; anything where left out.",
    )
    width: int | None = Field(None, description="In pixels; together with `height`.", examples=[64])
    height: int | None = Field(None, description="In pixels; together with `width`.", examples=[64])


STRENGTH = "Above 0 to 1: the share of the denoising steps that are made, from the picture on."


def edit_strength(*, mask: bool) -> float:
    """An edit's, where none is given. What a mask keeps is kept anyway: it leaves more freedom."""
    return 1.0 if mask else 0.8


class JobEditBody(JobBody):
    """A job that draws from a picture; its files stand beside these fields."""

    size: str | None = Field(
        None,
        description="`auto`, the picture's own shape, or as in `512x512`, which it then covers.",
    )
    strength: float | None = Field(
        None,
        description=f"{STRENGTH} 0.8 where left out, and with a mask 1.",
        examples=[0.6],
    )


class JobPage(Page):
    """Which jobs a client asks for."""

    state: JobState | None = Field(None, description="Those in this state; all where left out.")
    model: Text | None = Field(None, max_length=200, description="Those of this model.")


class JobOut(RowOut):
    """A job as it stands."""

    id: UUID
    state: JobState = Field(examples=["succeeded"])
    model: str = Field(examples=["sfumato-embedded"])
    prompt: str = Field(examples=["a red heart"])
    n: int
    params: dict[str, Any] = Field(
        description="Every parameter, defaults filled in.", examples=[EXAMPLE_PARAMS]
    )
    images: list[ImageOut]
    why: Why | None = Field(description="Of an autonomous job: every choice.", examples=[None])
    error: str | None = Field(description="Why it failed.")
    error_code: str | None = Field(
        description="`content_policy_violation`, `moderation_unavailable` or `unreadable_job`,"
        " where it failed so."
    )
    warnings: list[JobWarning] = Field(
        description="What the model did not read of the prompts; known once a picture is drawn.",
        examples=[[]],
    )
    last_seq: int = Field(description="Number of its newest event.", examples=[4])
    created_at: datetime
    started_at: datetime | None = Field(examples=["2026-11-24T05:45:00.301882Z"])
    finished_at: datetime | None = Field(examples=["2026-11-24T05:45:02.480113Z"])
    deadline_at: datetime | None

    @classmethod
    def of(cls, job: Job) -> Self:
        images = [ImageOut.of(image) for image in job.images]
        why = Why.model_validate(job.why) if job.why else None
        return cls.of_row(job, images=images, warnings=warnings_of(job), why=why)


class JobList(Listing[JobOut]):
    """Newest first; `next` is the `after` of the next page."""
