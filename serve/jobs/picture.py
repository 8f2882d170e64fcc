"""The fields of a picture that every way of asking for one shares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from pipelines.diffusion.request import NoiseScheduler
from serve.http.strict import StrictBody, Text

OutputFormat = Literal["png", "webp", "jpeg"]

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


class PictureBody(StrictBody):
    """What is left out, or null, takes the service's default."""

    other_names: ClassVar[Mapping[str, str]] = _OTHER_NAMES

    prompt: Text = Field(description="What the picture shows.", examples=["a red heart"])
    negative_prompt: Text | None = Field(None, description="What the picture must not show.")
    model: Text | None = Field(
        None, description="One of the names or aliases that `/v1/models` lists."
    )
    n: int | None = Field(None, description="How many pictures; 1 where left out.")
    size: str | None = Field(
        None, description="`auto`, or width and height in pixels as in `512x512`."
    )
    num_inference_steps: int | None = Field(None, description="Denoising steps.")
    guidance_scale: float | None = Field(
        None, description="How closely the prompt is followed; 1 or less turns guidance off."
    )
    seed: int | None = Field(
        None,
        description="Picture `i` is drawn with `seed + i`; random where left out or -1.",
    )
    scheduler: Annotated[NoiseScheduler, Field(strict=False)] | None = Field(
        None, description="The noise scheduler; `default` is the model's own."
    )
    clip_skip: int | None = Field(
        None,
        description="Last layers of the CLIP text encoders that are left out when the prompt is"
        " read; 0 where left out. For models whose `max_clip_skip` is above 0.",
    )
    loras: list[LoraBody] | None = Field(None, description="LoRAs that are added, each once.")
    control: ControlBody | None = Field(None, description="What steers the shapes.")
    output_format: OutputFormat | None = Field(None, description="File format; PNG by default.")
    output_compression: int | None = Field(
        None, description="Quality of WebP and JPEG, 0 to 100; PNG is lossless and takes none."
    )
    priority: int | None = Field(
        None, description="-100 to 100; a higher one is drawn first. 0 where left out."
    )
    deadline_s: float | None = Field(
        None, description="Seconds from now after which the pictures are of no use."
    )
