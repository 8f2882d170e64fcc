"""Finished pictures and their files."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Path, Query, Request, Response

from pipelines.imaging.format import PictureFormat
from serve.access.auth import Drawer, GuardedRoute, Reader
from serve.answer_cache import AnswerCache, Cached
from serve.database import DatabaseUnavailable
from serve.http.documented import form_body, header, openai_errors, success
from serve.http.errors import InvalidForm, InvalidValue, MissingField
from serve.http.form import read_form
from serve.http.provided import Provided
from serve.http.tagged import TAGGED, IfNoneMatch, tagged_json
from serve.pictures.checked_files import CheckedFiles
from serve.pictures.conversions import Conversions
from serve.pictures.downloads import ByteRange, Downloader, IfRange, answer_file
from serve.pictures.errors import (
    AnimatedPicture,
    FileDamaged,
    FormatImpossible,
    ImageDeleted,
    ImageNotFound,
    ImageUnfinished,
    InvalidPictureFile,
    RangeNotSatisfiable,
    UnsupportedPicture,
    VariantNotFound,
)
from serve.pictures.pictures import Pictures
from serve.pictures.schemas import (
    CredentialsOut,
    InspectBody,
    OriginOut,
    PictureChange,
    PictureList,
    PictureOut,
    PicturePage,
)
from serve.pictures.signed_urls import InvalidSignature
from serve.pictures.sources import Intake
from serve.settings import Settings
from serve.storage import StorageUnavailable

# A name that is no UUID is no picture: it is left to the routes that take POST, or to 405 and 404.
router = APIRouter(tags=["images"], route_class=GuardedRoute)


@router.get(
    "/v1/images",
    summary="List pictures",
    response_model=PictureList,
    responses={**TAGGED, **openai_errors()},
)
async def list_images(
    page: Annotated[PicturePage, Query()],
    caller: Reader,
    pictures: Provided[Pictures],
    settings: Provided[Settings],
    answers: Provided[AnswerCache],
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Finished ones, the newest first; those that match, where anything is looked for."""
    of = ("images", caller.tenant_id)
    model = page.model and settings.served_name(page.model)
    after = page.last_seen(*of)

    async def read() -> bytes:
        images = await pictures.list(caller.tenant_id, page, model=model, after=after)
        return PictureList(**page.answer(images, PictureOut.of, *of)).model_dump_json().encode()

    asked = page.model_dump_json(exclude_none=True)
    return tagged_json(
        await answers.get(Cached.PAGES, caller.tenant_id, asked, read), if_none_match
    )


@router.post(
    "/v1/images/inspect",
    summary="Read how a picture was made",
    responses=openai_errors(
        *(InvalidForm, MissingField, InvalidValue),
        *(InvalidPictureFile, UnsupportedPicture, AnimatedPicture),
    ),
    openapi_extra=form_body(InspectBody, "image"),
)
async def inspect_image(request: Request, _caller: Reader, intake: Provided[Intake]) -> OriginOut:
    """What a file says of itself: one of this service, of AUTOMATIC1111 or of ComfyUI. It is a
    multipart form, and the file is not kept."""
    async with read_form(request, InspectBody, required="image") as form:
        return OriginOut.of(await intake.origin(form.files["image"]))


@router.post(
    "/v1/images/verify",
    summary="Ask where a picture is from",
    responses=openai_errors(
        *(InvalidForm, MissingField, InvalidValue),
        *(InvalidPictureFile, UnsupportedPicture, AnimatedPicture),
    ),
    openapi_extra=form_body(InspectBody, "image"),
)
async def verify_image(
    request: Request, _caller: Reader, intake: Provided[Intake]
) -> CredentialsOut:
    """By the content credentials (C2PA) in its file: who signed it, and whether it was altered
    since. It is a multipart form, and the file is not kept."""
    async with read_form(request, InspectBody, required="image") as form:
        return CredentialsOut.of(await intake.credentials(form.files["image"]))


@router.get(
    "/v1/images/{image_id:uuid}",
    summary="Look at a picture",
    responses=openai_errors(ImageNotFound, ImageDeleted),
)
async def get_image(image_id: UUID, caller: Reader, pictures: Provided[Pictures]) -> PictureOut:
    """What was asked, and which files there are."""
    return PictureOut.of(await pictures.get(caller.tenant_id, image_id))


@router.patch(
    "/v1/images/{image_id:uuid}",
    summary="Mark a picture as a favourite",
    responses={
        **success(200, example={"favourite": True}),
        **openai_errors(ImageNotFound, ImageDeleted),
    },
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
    responses=openai_errors(ImageNotFound, ImageUnfinished),
)
async def delete_image(image_id: UUID, caller: Drawer, pictures: Provided[Pictures]) -> None:
    """With its files, for good. Its job goes on naming it, as deleted. Repeating it is harmless;
    one that is still to be drawn is refused: cancel its job instead."""
    await pictures.delete(caller.tenant_id, image_id)


_UNCHANGED = {
    "ETag": header("ETag"),
    "Cache-Control": header("Cache-Control", "private, max-age=31536000, immutable"),
    "Accept-Ranges": header("Accept-Ranges"),
}
_WHOLE = {
    **_UNCHANGED,
    "Content-Disposition": header("Content-Disposition"),
    "Content-Length": header("Content-Length"),
}
_PART = {
    **_WHOLE,
    "Content-Length": header("Content-Length", "1024"),
    "Content-Range": header("Content-Range"),
}
_NOT_AGAIN = {"description": "The client has it already.", "headers": _UNCHANGED}
_FILE: dict[str, Any] = {"content": {"image/*": {}}}
_ERRORS = (
    *(InvalidSignature, ImageNotFound, VariantNotFound, ImageDeleted),
    *(FormatImpossible, FileDamaged),
)
_FORMATS = frozenset(PictureFormat)
_NO_SUCH_BYTES = RangeNotSatisfiable(
    "The file has 6184 bytes, and none of those asked for; ask within 0-6183.", size=6184
)


@router.get(
    "/v1/images/{image_id:uuid}/{variant}",
    summary="Download a file of a picture",
    response_class=Response,
    responses={
        200: {**_FILE, "description": "The file.", "headers": _WHOLE},
        206: {**_FILE, "description": "The part that `Range` asks for.", "headers": _PART},
        304: _NOT_AGAIN,
        **openai_errors(*_ERRORS, _NO_SUCH_BYTES, DatabaseUnavailable, StorageUnavailable),
    },
)
@router.head(
    "/v1/images/{image_id:uuid}/{variant}",
    name="look_at_file",
    summary="Ask for the size and type of a file of a picture",
    response_class=Response,
    responses={
        200: {"description": "The headers that a download would have.", "headers": _WHOLE},
        304: _NOT_AGAIN,
        **openai_errors(*_ERRORS),
    },
)
async def download(
    image_id: UUID,
    variant: Annotated[str, Path(examples=["original"])],
    tenant_id: Downloader,
    pictures: Provided[Pictures],
    files: Provided[CheckedFiles],
    conversions: Provided[Conversions],
    request: Request,
    download: Annotated[bool, Query(description="Whether browsers save the file.")] = False,
    if_none_match: IfNoneMatch = None,
    byte_range: ByteRange = None,
    if_range: IfRange = None,
) -> Response:
    """`variant` is one of the picture's files, or a format: `png`, `jpeg`, `webp` or `avif` is made
    when it is first opened, and kept.

    A file never changes: its ETag is its SHA-256. One byte range may be asked for. A signed URL, as
    a generation with `response_format: "url"` answers it, opens it without a key.
    """
    image = await pictures.get(tenant_id, image_id)
    file = next((file for file in image.variants if file.name == variant), None)
    if file is None and variant in _FORMATS:
        file = await conversions.get(image, PictureFormat(variant))
    if file is None:
        names = ", ".join(file.name for file in image.variants) or "none yet"
        raise VariantNotFound(
            f"Image {image_id} has no file {variant[:100]!r}; it has: {names}.", param="variant"
        )
    if download and byte_range is None and request.method == "GET":
        await pictures.saved(image)
    return await answer_file(
        request,
        files,
        image,
        file,
        if_none_match=if_none_match,
        byte_range=byte_range,
        if_range=if_range,
        download=download,
    )
