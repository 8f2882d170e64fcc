"""Pictures as clients send and see them."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, Self
from uuid import UUID

from pydantic import BaseModel, Field

from pipelines.imaging.metadata.origin import Origin
from serve.http.fields import Moment, RowOut, StrictBody, Text
from serve.http.page import Listing, Page
from serve.tables import MAX_SEED, Image, Job, JobState, Variant

if TYPE_CHECKING:
    from pipelines.imaging.credentials.verify import Credentials

EXAMPLE_PARAMS = {
    "model": "sfumato-embedded",
    "prompt": "a red heart",
    "negative_prompt": "",
    "n": 1,
    "width": 64,
    "height": 64,
    "num_inference_steps": 20,
    "guidance_scale": 3.0,
    "seed": 7,
    "scheduler": "default",
    "output_format": "png",
}


class JobWarning(BaseModel):
    """Something that was asked for had not its whole effect; the picture was drawn all the same."""

    code: str = Field(
        description="`prompt_truncated`: the model reads fewer tokens than the text has.",
        examples=["prompt_truncated"],
    )
    param: str = Field(description="Which field it is about.", examples=["prompt"])
    message: str = Field(
        examples=["prompt: the model's text encoder read the first 14 of 23 tokens."]
    )


def warnings_of(job: Job) -> list[JobWarning]:
    """None before a picture of it is drawn."""
    return [JobWarning.model_validate(each) for each in job.warnings or ()]


class PicturePage(Page):
    """Query parameters of the list of pictures; all filters must hold."""

    q: Text | None = Field(
        None,
        max_length=200,
        description='Words of the prompt, all of them, whole; `"in quotes"` side by side, `or`'
        " between two for either, `-` before one for none of it. Case, accents and width do not"
        " count; in scripts without spaces any part is found.",
        examples=["red heart -panda"],
    )
    model: Text | None = Field(None, max_length=200, description="The model that drew it.")
    seed: int | None = Field(None, ge=0, le=MAX_SEED, description="The picture's own seed.")
    created_after: Moment | None = Field(
        None,
        description="Asked for at this moment or later; with its time zone.",
        examples=["2026-11-24T00:00:00Z"],
    )
    created_before: Moment | None = Field(None, description="Asked for before this moment.")
    album: UUID | None = Field(None, description="Those in this album.")
    favourite: bool | None = Field(None, description="`true` for favourites, `false` for others.")


class PictureChange(StrictBody):
    """What of a finished picture can be changed."""

    favourite: bool = Field(description="Whether it is a favourite.", examples=[True])


class InspectBody(StrictBody):
    """The file alone is sent."""


class OriginOut(BaseModel):
    """How a picture was made, as its file says."""

    software: str | None = Field(
        description="What made it; null if the file does not say.", examples=["Sfumato 0.1.0"]
    )
    parameters: dict[str, Any] = Field(
        description="By the names of `POST /v1/jobs`; a model or LoRA may not be served here.",
        examples=[EXAMPLE_PARAMS],
    )
    other: dict[str, str] = Field(
        description="What has no name there, as the software called it.",
        examples=[{"Model hash": "6ce0161689"}],
    )
    created_at: str | None = Field(
        description="When it was asked for.", examples=["2026-11-24T05:45:00+00:00"]
    )

    @classmethod
    def of(cls, origin: Origin | None) -> Self:
        if origin is None:
            return cls(software=None, parameters={}, other={}, created_at=None)
        return cls(
            software=origin.software,
            parameters=dict(origin.parameters),
            other=dict(origin.other),
            created_at=origin.created_at,
        )


class CredentialsOut(BaseModel):
    """Where a picture is from, as the content credentials in its file say."""

    status: Literal["trusted", "intact", "altered", "none"] = Field(
        description="`trusted`: as it was signed, by somebody whom this service trusts; `intact`:"
        " as it was signed, by somebody; `altered`: changed since, or not signed as it should be;"
        " `none`: it has no credentials, which says nothing of its origin.",
        examples=["trusted"],
    )
    signer: str | None = Field(None, examples=["Sfumato (self-made)"])
    self_made: bool = Field(
        False, description="Whether the signer's certificate says that a service made it itself."
    )
    software: str | None = Field(None, examples=["Sfumato 0.1.0"])
    actions: list[str] = Field([], examples=[["c2pa.created"]])
    source_type: str | None = Field(
        None, description="IPTC's digital source type.", examples=["trainedAlgorithmicMedia"]
    )
    created_at: str | None = Field(None, examples=["2026-11-24T05:45:00+00:00"])
    faults: list[str] = Field([], description="What speaks against them.")

    @classmethod
    def of(cls, found: Credentials | None) -> Self:
        if found is None:
            return cls(status="none")
        return cls.model_validate(found, from_attributes=True)


class VariantOut(RowOut):
    """One file of a picture."""

    name: str = Field(examples=["original"])
    url: str = Field(
        description="Path below this service's address; asks for the same key.",
        examples=["/v1/images/019ab2f4-6c1f-7b44-8e21-90d4a6f2c713/original"],
    )
    media_type: str = Field(examples=["image/png"])
    width: int = Field(examples=[64])
    height: int = Field(examples=[64])
    bytes: int = Field(examples=[6184])
    sha256: str = Field(
        examples=["9c1185a5c5e9fc54612808977ee8f548b2258d31ad3a1e5d2f0f4f0f9e6b7a31"]
    )

    @classmethod
    def of(cls, variant: Variant) -> Self:
        url = f"/v1/images/{variant.image_id}/{variant.name}"
        return cls.of_row(variant, url=url, bytes=variant.size)


class CritiqueOut(BaseModel):
    """How a picture of an autonomous job looks, by measures that any picture can be given."""

    sharpness: float = Field(description="The variance of its Laplacian.", examples=[1423.5])
    colourfulness: float = Field(
        description="Hasler and Süsstrunk's: 15 is slightly colourful, 59 quite.", examples=[48.2]
    )


class ImageOut(RowOut):
    """A requested picture; its files are there once it has succeeded."""

    id: UUID
    index: int = Field(examples=[0])
    state: JobState = Field(examples=["succeeded"])
    seed: int = Field(examples=[7])
    width: int = Field(examples=[64])
    height: int = Field(examples=[64])
    variants: list[VariantOut]
    created_at: datetime
    finished_at: datetime | None = Field(examples=["2026-11-24T05:45:02.480113Z"])
    favourite: bool = Field(examples=[False])
    blurhash: str | None = Field(
        description="The picture in some thirty characters, to show until its file has arrived:"
        " [BlurHash](https://blurha.sh).",
        examples=["L6Pj0^jE.AyE_3t7t7R**0o#DgR4"],
    )
    critique: CritiqueOut | None = Field(
        description="Of an autonomous job's: the better one is kept.", examples=[None]
    )
    deleted_at: datetime | None = Field(
        description="When it was deleted: it has no files from then on, and is not listed."
    )

    @classmethod
    def of(cls, image: Image) -> Self:
        return cls.of_row(image, variants=[VariantOut.of(each) for each in image.variants])


class PictureOut(ImageOut):
    """A picture by itself: with the job that asked for it."""

    job_id: UUID
    model: str = Field(examples=["sfumato-embedded"])
    prompt: str = Field(examples=["a red heart"])
    params: dict[str, Any] = Field(description="The job's parameters.", examples=[EXAMPLE_PARAMS])

    @classmethod
    def of(cls, image: Image) -> Self:
        return cls.of_row(
            image,
            variants=[VariantOut.of(each) for each in image.variants],
            prompt=image.job.prompt,
            params=image.job.params,
        )


class PictureList(Listing[PictureOut]):
    """Newest first; `next` is the `after` of the next page."""
