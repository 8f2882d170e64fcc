"""The exhibition as clients see it."""

from __future__ import annotations

from datetime import date, datetime
from datetime import date as datetime_date
from typing import Self
from uuid import UUID

from pydantic import BaseModel, Field

from serve.http.fields import Day
from serve.http.page import Listing, Page
from serve.jobs.why import Why
from serve.tables import Image

_ID = "019ab2f4-6c1f-7b44-8e21-90d4a6f2c713"


class ExhibitionPage(Page):
    """Which day's pictures a client asks for."""

    date: Day | None = Field(
        None,
        ge=datetime_date(1970, 1, 1),
        le=datetime_date(9000, 1, 1),
        description="In UTC; today where left out.",
    )


class ExhibitFile(BaseModel):
    """A file of a picture."""

    name: str = Field(examples=["original"])
    url: str = Field(
        description="Path below this service's address, which opens the file without a key, for"
        " a while.",
        examples=[f"/v1/images/{_ID}/original?signature=9f1c…"],
    )
    media_type: str = Field(examples=["image/png"])
    width: int = Field(examples=[64])
    height: int = Field(examples=[64])


class ExhibitOut(BaseModel):
    """A picture that the artist drew on its schedule."""

    id: UUID
    title: str = Field(description="Its prompt.", examples=["a red heart on a blue background"])
    model: str = Field(examples=["sfumato-embedded"])
    seed: int = Field(examples=[7])
    created_at: datetime
    blurhash: str | None = Field(examples=["L6Pj0^jE.AyE_3t7t7R**0o#DgR4"])
    files: list[ExhibitFile]
    why: Why

    @classmethod
    def of(cls, image: Image, signatures: dict[str, str]) -> Self:
        """``signatures`` are by the names of the files."""
        files = [
            ExhibitFile(
                name=file.name,
                url=f"/v1/images/{image.id}/{file.name}?signature={signatures[file.name]}",
                media_type=file.media_type,
                width=file.width,
                height=file.height,
            )
            for file in image.variants
        ]
        return cls(
            id=image.id,
            title=image.job.prompt,
            model=image.model,
            seed=image.seed,
            created_at=image.created_at,
            blurhash=image.blurhash,
            files=files,
            why=Why.model_validate(image.job.why),
        )


class ExhibitionOut(Listing[ExhibitOut]):
    """The day's pictures, the newest first; `next` is the `after` of the next page."""

    date: date
    open: bool = Field(description="Whether the artist draws on its schedule.", examples=[True])
