"""Finished pictures and their files."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response

from serve.access.auth import Drawer, Reader
from serve.access.guarded_route import GuardedRoute
from serve.http.documented import openai_errors
from serve.http.provided import Provided
from serve.pictures.checked_files import CheckedFiles
from serve.pictures.downloads import Downloader, FileHeaders, answer_file, file_headers
from serve.pictures.errors import VariantNotFound
from serve.pictures.gallery import PictureChange, PicturePage
from serve.pictures.pictures import Pictures
from serve.pictures.schemas import PictureList, PictureOut
from serve.settings import Settings

# A name that is no UUID is no picture: it is left to the routes that take POST, or to 405 and 404.
router = APIRouter(tags=["images"], route_class=GuardedRoute)


@router.get("/v1/images", summary="List pictures", responses=openai_errors(400, 401))
async def list_images(
    page: Annotated[PicturePage, Query()],
    caller: Reader,
    pictures: Provided[Pictures],
    settings: Provided[Settings],
) -> PictureList:
    """Finished ones, the newest first; those that match, where anything is looked for."""
    of = ("images", caller.tenant_id)
    images = await pictures.list(
        caller.tenant_id,
        page.wanted(settings),
        limit=page.limit_and_one,
        after=page.last_seen(*of),
    )
    shown, following = page.cut(images, *of)
    return PictureList(
        data=[PictureOut.of(image) for image in shown], has_more=bool(following), next=following
    )


@router.get(
    "/v1/images/{image_id:uuid}",
    summary="Look at a picture",
    responses=openai_errors(401, 404, 410),
)
async def get_image(image_id: UUID, caller: Reader, pictures: Provided[Pictures]) -> PictureOut:
    """What was asked, and which files there are."""
    return PictureOut.of(await pictures.get(caller.tenant_id, image_id))


@router.patch(
    "/v1/images/{image_id:uuid}",
    summary="Mark a picture as a favourite",
    responses=openai_errors(400, 401, 404, 410, 413),
)
async def change_image(
    image_id: UUID, body: PictureChange, caller: Drawer, pictures: Provided[Pictures]
) -> PictureOut:
    """Or no longer; the gallery can list favourites alone."""
    image = await pictures.favour(caller.tenant_id, image_id, body.favourite)
    return PictureOut.of(image)


@router.delete(
    "/v1/images/{image_id:uuid}",
    status_code=204,
    summary="Delete a picture",
    responses=openai_errors(401, 404, 409),
)
async def delete_image(image_id: UUID, caller: Drawer, pictures: Provided[Pictures]) -> None:
    """With its files, for good. Its job goes on naming it, as deleted. Repeating it is harmless;
    one that is still to be drawn is refused: cancel its job instead."""
    await pictures.delete(caller.tenant_id, image_id)


_FILE: dict[str, Any] = {"content": {"image/*": {}}}


@router.get(
    "/v1/images/{image_id:uuid}/{variant}",
    summary="Download a file of a picture",
    response_class=Response,
    responses={
        200: {**_FILE, "description": "The file."},
        206: {**_FILE, "description": "The part that `Range` asks for."},
        304: {"description": "The client has it already."},
        **openai_errors(400, 401, 403, 404, 410, 416, 500),
    },
)
@router.head(
    "/v1/images/{image_id:uuid}/{variant}",
    name="look_at_file",
    summary="Ask for the size and type of a file of a picture",
    response_class=Response,
    responses={
        200: {"description": "The headers that a download would have."},
        304: {"description": "The client has it already."},
        **openai_errors(400, 401, 403, 404, 410, 500),
    },
)
async def download(
    image_id: UUID,
    variant: str,
    tenant_id: Downloader,
    pictures: Provided[Pictures],
    files: Provided[CheckedFiles],
    request: Request,
    asked: Annotated[FileHeaders, Depends(file_headers)],
    download: Annotated[bool, Query(description="Whether browsers save the file.")] = False,
) -> Response:
    """A file never changes: its ETag is its SHA-256. One byte range may be asked for. A signed URL,
    as a generation with `response_format: "url"` answers it, opens it without a key."""
    image = await pictures.get(tenant_id, image_id)
    file = next((file for file in image.variants if file.name == variant), None)
    if file is None:
        names = ", ".join(file.name for file in image.variants) or "none yet"
        raise VariantNotFound(
            f"Image {image_id} has no file {variant[:100]!r}; it has: {names}.", param="variant"
        )
    return await answer_file(request, files, image, file, asked, download=download)
