"""Finished pictures and their files."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Header, Query, Response

from serve.api.auth import Caller, Downloader, ServicesDep
from serve.api.documented import openai_errors
from serve.api.errors import VariantNotFound
from serve.api.schemas.image import PictureList, PictureOut
from serve.api.schemas.page import Page

router = APIRouter(tags=["images"])


@router.get("/v1/images", summary="List pictures", responses=openai_errors(400, 401))
async def list_images(
    page: Annotated[Page, Query()], caller: Caller, services: ServicesDep
) -> PictureList:
    """Finished ones, the newest first."""
    images = await services.jobs.images(caller.tenant_id, limit=page.limit + 1, after=page.after)
    shown = [PictureOut.of(image) for image in images[: page.limit]]
    more = len(images) > page.limit
    return PictureList(data=shown, has_more=more, next=shown[-1].id if more else None)


@router.get(
    "/v1/images/{image_id}", summary="Look at a picture", responses=openai_errors(400, 401, 404)
)
async def get_image(image_id: UUID, caller: Caller, services: ServicesDep) -> PictureOut:
    """What was asked, and which files there are."""
    return PictureOut.of(await services.jobs.image(caller.tenant_id, image_id))


@router.get(
    "/v1/images/{image_id}/{variant}",
    summary="Download a file of a picture",
    response_class=Response,
    responses={
        200: {"content": {"image/*": {}}, "description": "The file."},
        304: {"description": "The client has it already."},
        **openai_errors(400, 401, 403, 404),
    },
)
async def download(
    image_id: UUID,
    variant: str,
    tenant_id: Downloader,
    services: ServicesDep,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """A file never changes: its ETag is its SHA-256. A signed URL, as a generation with
    `response_format: "url"` answers it, opens it without a key."""
    image = await services.jobs.image(tenant_id, image_id)
    file = next((file for file in image.variants if file.name == variant), None)
    if file is None:
        names = ", ".join(file.name for file in image.variants) or "none yet"
        raise VariantNotFound(
            f"Image {image_id} has no file {variant[:100]!r}; it has: {names}.", param="variant"
        )
    headers = {
        "ETag": f'"{file.sha256}"',
        "Cache-Control": "private, max-age=31536000, immutable",
        "Cross-Origin-Resource-Policy": "cross-origin",  # any page may show a signed URL
        "Vary": "Authorization, X-API-Key",
    }
    if if_none_match is not None and _matches(if_none_match, file.sha256):
        return Response(status_code=304, headers=headers)
    content = await services.storage.get(file.storage_key)
    return Response(content, media_type=file.media_type, headers=headers)


def _matches(if_none_match: str, sha256: str) -> bool:
    tags = (tag.strip().removeprefix("W/").strip('"') for tag in if_none_match.split(","))
    return any(tag in ("*", sha256) for tag in tags)
