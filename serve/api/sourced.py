"""What a request is drawn from: found, decoded and kept, if the request would be let in."""

from __future__ import annotations

import io
from collections.abc import Mapping
from uuid import UUID

from pipelines.imaging.postprocess import ORIGINAL
from serve.api.data_url import DATA_URL, file_of_data_url
from serve.api.errors import InvalidValue, MissingField
from serve.api.intake import Upload
from serve.api.schemas.picture import ControlBody
from serve.api.services import Services
from serve.jobs.errors import ImageDeleted, ImageNotFound
from serve.jobs.request import JobRequest

_FIELD = "control.image"


async def sourced(
    services: Services,
    tenant_id: UUID,
    asked: JobRequest,
    key: str | None,
    *,
    control: ControlBody | None,
    uploads: Mapping[str, Upload] | None = None,
) -> JobRequest:
    """The request with its pictures kept and named; ``uploads`` are as `Intake.keep` takes them.

    Nothing is decoded of what quota, rate or backlog would refuse.

    Raises:
        InvalidValue, MissingField: there is no such control picture, or none, or two.
        ServiceError: as `Jobs.foresee` and `Intake.keep` do.
    """
    uploads = dict(uploads or {})
    _check_control(control, "control_image" in uploads)
    if control is None and not uploads:
        return asked
    await services.jobs.foresee(tenant_id, asked, idempotency_key=key)
    if control is not None and control.image is not None:
        file = await _file(services, tenant_id, control.image)
        uploads["control_image"] = Upload(io.BytesIO(file), _FIELD)
    return await services.intake.keep(tenant_id, asked, uploads)


def _check_control(control: ControlBody | None, uploaded: bool) -> None:
    if control is None and uploaded:
        raise MissingField("control: say which ControlNet follows the picture.", param="control")
    if control is not None and control.image is None and not uploaded:
        raise MissingField(f"{_FIELD}: give the picture to follow.", param=_FIELD)
    if control is not None and control.image is not None and uploaded:
        raise InvalidValue(f"Give {_FIELD} or control_image, not both.", param=_FIELD)


async def _file(services: Services, tenant_id: UUID, image: str) -> bytes:
    """Of a data URL, or of an earlier picture of the tenant's."""
    if image.startswith(DATA_URL):
        return file_of_data_url(image, _FIELD)
    try:
        image_id = UUID(image)
    except ValueError as error:
        raise InvalidValue(
            f"{_FIELD} must be the id of an earlier picture, or `{DATA_URL}png;base64,…`.",
            param=_FIELD,
        ) from error
    missing = InvalidValue(
        f"{_FIELD}: there is no finished picture {image_id}; it may have been deleted.",
        param=_FIELD,
    )
    try:
        picture = await services.pictures.get(tenant_id, image_id)
        files = [each for each in picture.variants if each.name == ORIGINAL]
        if not files:
            raise missing
        return await services.files.whole(tenant_id, files[0])
    except (ImageNotFound, ImageDeleted) as error:
        raise missing from error
