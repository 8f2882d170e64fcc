"""Albums as clients send and see them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Self
from uuid import UUID

from pydantic import AfterValidator, Field

from serve.albums.repository import FoundAlbum
from serve.http.fields import RowOut, StrictBody, Text
from serve.http.page import Listing, Page

_MOST_CHARS = 100


def _trimmed(name: str) -> str:
    name = " ".join(name.split())
    if not 1 <= len(name) <= _MOST_CHARS:
        raise ValueError(f"must have 1 to {_MOST_CHARS} characters")
    return name


Name = Annotated[
    Text,
    AfterValidator(_trimmed),
    Field(
        description=f"1 to {_MOST_CHARS} characters, unlike those of the tenant's other albums."
        " Blanks around it do not count.",
        examples=["Hearts"],
    ),
]


class AlbumBody(StrictBody):
    """A new album."""

    name: Name


class AlbumChange(StrictBody):
    """What of an album can be changed; what is left out stays."""

    name: Name | None = Field(None, description="Another name.", examples=["Red hearts"])
    cover_id: Annotated[UUID, Field(strict=False)] | None = Field(
        None,
        description="The picture that stands for it, one of its own.",
        examples=["019ab2f4-6c1f-7b44-8e21-90d4a6f2c713"],
    )


class AlbumPage(Page):
    """Which albums a client asks for."""

    image: UUID | None = Field(None, description="Those that this picture is in.")


class AlbumOut(RowOut):
    """An album."""

    id: UUID
    name: str = Field(examples=["Hearts"])
    pictures: int = Field(description="How many are in it.", examples=[12])
    cover_id: UUID | None = Field(
        description="The picture that stands for it: the one that was chosen, else the newest;"
        " null if it is empty.",
        examples=["019ab2f4-6c1f-7b44-8e21-90d4a6f2c713"],
    )
    created_at: datetime

    @classmethod
    def of(cls, found: FoundAlbum) -> Self:
        return cls.of_row(found)


class AlbumList(Listing[AlbumOut]):
    """Newest first; `next` is the `after` of the next page."""
