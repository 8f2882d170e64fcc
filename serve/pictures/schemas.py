"""A picture as clients see it."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Self
from uuid import UUID

from pydantic import BaseModel, Field

from serve.tables import Image, JobState, Variant


class VariantOut(BaseModel):
    """One file of a picture."""

    name: str
    url: str = Field(description="Path below this service's address; asks for the same key.")
    media_type: str
    width: int
    height: int
    bytes: int
    sha256: str

    @classmethod
    def of(cls, variant: Variant) -> Self:
        return cls(
            name=variant.name,
            url=f"/v1/images/{variant.image_id}/{variant.name}",
            media_type=variant.media_type,
            width=variant.width,
            height=variant.height,
            bytes=variant.size,
            sha256=variant.sha256,
        )


class ImageOut(BaseModel):
    """A requested picture; its files are there once it has succeeded."""

    id: UUID
    index: int
    state: JobState
    seed: int
    width: int
    height: int
    variants: list[VariantOut]
    created_at: datetime
    finished_at: datetime | None
    favourite: bool
    deleted_at: datetime | None = Field(
        description="When it was deleted: it has no files from then on, and is not listed."
    )

    @classmethod
    def of(cls, image: Image) -> Self:
        return cls(**cls._fields_of(image))

    @staticmethod
    def _fields_of(image: Image) -> dict[str, Any]:
        return {
            "id": image.id,
            "index": image.index,
            "state": image.state,
            "seed": image.seed,
            "width": image.width,
            "height": image.height,
            "variants": [VariantOut.of(variant) for variant in image.variants],
            "created_at": image.created_at,
            "finished_at": image.finished_at,
            "favourite": image.favourite,
            "deleted_at": image.deleted_at,
        }


class PictureOut(ImageOut):
    """A picture by itself: with the job that asked for it."""

    job_id: UUID
    model: str
    prompt: str
    params: dict[str, Any] = Field(description="The job's parameters.")

    @classmethod
    def of(cls, image: Image) -> Self:
        return cls(
            **cls._fields_of(image),
            job_id=image.job_id,
            model=image.model,
            prompt=image.job.prompt,
            params=image.job.params,
        )


class PictureList(BaseModel):
    """Newest first; `next` is the `after` of the next page."""

    data: list[PictureOut]
    has_more: bool
    next: str | None
