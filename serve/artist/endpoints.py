"""Today's exhibition."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from serve.access.auth import GuardedRoute, Reader
from serve.artist.exhibition import Exhibition
from serve.artist.schemas import ExhibitionOut, ExhibitionPage, ExhibitOut
from serve.http.documented import problems
from serve.http.provided import Provided
from serve.settings import Settings

router = APIRouter(tags=["exhibition"], route_class=GuardedRoute)


@router.get("/v1/exhibition", summary="Look at the exhibition", responses=problems())
async def show_exhibition(
    page: Annotated[ExhibitionPage, Query()],
    _caller: Reader,
    exhibition: Provided[Exhibition],
    settings: Provided[Settings],
) -> ExhibitionOut:
    """What the artist drew by itself on a day, and why. Every tenant sees the same."""
    of = ("exhibition",)
    day, images = await exhibition.list(
        page.date, limit=page.limit_and_one, after=page.last_seen(*of)
    )
    signatures = {image.id: await exhibition.signatures(image) for image in images}
    listing = page.answer(images, lambda image: ExhibitOut.of(image, signatures[image.id]), *of)
    return ExhibitionOut(**listing, date=day, open=settings.artist.enabled)
