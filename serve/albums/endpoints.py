"""Albums."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response

from serve.access.auth import Drawer, GuardedRoute, Reader
from serve.albums.albums import Albums
from serve.albums.errors import AlbumExists, AlbumFull, AlbumNotFound, TooManyAlbums
from serve.albums.schemas import AlbumBody, AlbumChange, AlbumList, AlbumOut, AlbumPage
from serve.http.address import path_to
from serve.http.documented import problems, success
from serve.http.provided import Provided
from serve.pictures.errors import ImageDeleted, ImageNotFound, ImageUnfinished

router = APIRouter(prefix="/v1/albums", tags=["albums"], route_class=GuardedRoute)


@router.post(
    "",
    status_code=201,
    summary="Make an album",
    responses={
        **success(201, ("Location",), {"pictures": 0, "cover_id": None}),
        **problems(AlbumExists, TooManyAlbums),
    },
)
async def make_album(
    body: AlbumBody,
    request: Request,
    response: Response,
    caller: Drawer,
    albums: Provided[Albums],
) -> AlbumOut:
    """It is empty: `PUT /v1/albums/{album_id}/images/{image_id}` puts pictures in."""
    album = await albums.create(caller.tenant_id, body.name)
    response.headers["Location"] = path_to(f"/v1/albums/{album.id}", request)
    return AlbumOut.of(album)


@router.get("", summary="List albums", responses=problems())
async def list_albums(
    page: Annotated[AlbumPage, Query()], caller: Reader, albums: Provided[Albums]
) -> AlbumList:
    """The newest first. `GET /v1/images?album=…` lists the pictures of one."""
    of = ("albums", caller.tenant_id)
    found = await albums.list(
        caller.tenant_id,
        limit=page.limit_and_one,
        after=page.last_seen(*of),
        image_id=page.image,
    )
    return AlbumList(**page.answer(found, AlbumOut.of, *of))


@router.get("/{album_id}", summary="Look at an album", responses=problems(AlbumNotFound))
async def get_album(album_id: UUID, caller: Reader, albums: Provided[Albums]) -> AlbumOut:
    """Its name, its cover, and how many pictures are in it."""
    return AlbumOut.of(await albums.get(caller.tenant_id, album_id))


@router.patch(
    "/{album_id}", summary="Change an album", responses=problems(AlbumNotFound, AlbumExists)
)
async def change_album(
    album_id: UUID, body: AlbumChange, caller: Drawer, albums: Provided[Albums]
) -> AlbumOut:
    """Its name, or the picture that stands for it."""
    album = await albums.change(caller.tenant_id, album_id, name=body.name, cover_id=body.cover_id)
    return AlbumOut.of(album)


@router.delete(
    "/{album_id}", status_code=204, summary="Delete an album", responses=problems(AlbumNotFound)
)
async def delete_album(album_id: UUID, caller: Drawer, albums: Provided[Albums]) -> None:
    """Its pictures stay."""
    await albums.delete(caller.tenant_id, album_id)


@router.put(
    "/{album_id}/images/{image_id}",
    status_code=204,
    summary="Put a picture into an album",
    responses=problems(AlbumNotFound, ImageNotFound, ImageDeleted, ImageUnfinished, AlbumFull),
)
async def put_picture(
    album_id: UUID, image_id: UUID, caller: Drawer, albums: Provided[Albums]
) -> None:
    """A picture may be in several. Repeating it is harmless."""
    await albums.put(caller.tenant_id, album_id, image_id)


@router.delete(
    "/{album_id}/images/{image_id}",
    status_code=204,
    summary="Take a picture out of an album",
    responses=problems(AlbumNotFound),
)
async def take_picture(
    album_id: UUID, image_id: UUID, caller: Drawer, albums: Provided[Albums]
) -> None:
    """The picture itself stays. Repeating it is harmless."""
    await albums.take(caller.tenant_id, album_id, image_id)
