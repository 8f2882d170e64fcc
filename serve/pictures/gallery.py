"""What a client may ask of its finished pictures."""

from __future__ import annotations

from pydantic import Field

from serve.http.moment import Moment
from serve.http.page import Page
from serve.http.strict import StrictBody, Text
from serve.pictures.repository import PictureFilter
from serve.settings import Settings
from serve.tables import MAX_SEED


class PicturePage(Page):
    """Which pictures are asked for; all that is given must hold."""

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
    favourite: bool | None = Field(None, description="`true` for favourites, `false` for others.")

    def wanted(self, settings: Settings) -> PictureFilter:
        """An alias in ``model`` is the model that has it in these settings."""
        words = (self.q or "").strip()
        return PictureFilter(
            words=words or None,
            model=self.model and settings.served_name(self.model),
            seed=self.seed,
            created_after=self.created_after,
            created_before=self.created_before,
            favourite=self.favourite,
        )


class PictureChange(StrictBody):
    """What of a finished picture can be changed."""

    favourite: bool = Field(description="Whether it is a favourite.")
