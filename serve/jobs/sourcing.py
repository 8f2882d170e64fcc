"""The sources of a request: found, decoded and stored, if the request would be let in."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from uuid import UUID

from pipelines.imaging.postprocess import ORIGINAL
from serve.http.errors import InvalidValue, MissingField
from serve.http.form import Upload
from serve.http.json_body import DATA_URL, file_of_data_url
from serve.jobs.lifecycle import Jobs
from serve.jobs.limits import Limits
from serve.jobs.request import JobRequest
from serve.jobs.schemas import ControlBody
from serve.pictures.checked_files import CheckedFiles
from serve.pictures.errors import ImageDeleted, ImageNotFound
from serve.pictures.pictures import Pictures
from serve.pictures.sources import Intake

_FIELD = "control.image"


@dataclass(frozen=True, slots=True)
class Sourcing:
    """Stores the pictures that a request names or uploads."""

    jobs: Jobs
    pictures: Pictures
    files: CheckedFiles
    intake: Intake

    async def keep(
        self,
        tenant_id: UUID,
        request: JobRequest,
        key: str | None,
        *,
        control: ControlBody | None,
        uploads: Mapping[str, Upload] | None = None,
    ) -> JobRequest:
        """The request with its pictures stored and named; ``uploads`` are by the request's field.

        Nothing is decoded for a request that quota, rate or backlog would refuse.

        Raises:
            InvalidValue, MissingField: there is no such control picture, or none, or two.
            ServiceError: as `Jobs.precheck` and `Intake.keep` do.
        """
        uploads = dict(uploads or {})
        if control is None:
            if not uploads:
                return request
            if "control_image" in uploads:
                raise MissingField(
                    "control: say which ControlNet follows the picture.", param="control"
                )
        elif control.image is None and "control_image" not in uploads:
            raise MissingField(f"{_FIELD}: give the picture to follow.", param=_FIELD)
        elif control.image is not None and "control_image" in uploads:
            raise InvalidValue(f"Give {_FIELD} or control_image, not both.", param=_FIELD)
        await self.jobs.precheck(tenant_id, request, idempotency_key=key)
        if control is not None and control.image is not None:
            file = await self._file(tenant_id, control.image)
            uploads["control_image"] = Upload(io.BytesIO(file), _FIELD)
        kept = await self.intake.keep(tenant_id, (request.width, request.height), uploads)
        return replace(request, **kept)  # type: ignore[arg-type]

    async def fit(
        self,
        limits: Limits,
        request: JobRequest,
        image: Upload,
        *,
        size: str | None,
        strength: float | None,
        default_strength: float,
    ) -> JobRequest:
        """The request at this strength and size, which is the picture's own for ``auto``.

        Raises:
            InvalidValue: the model cannot draw so.
            InvalidPictureFile: the upload is no picture.
        """
        if request.hires is not None:
            raise InvalidValue(
                "hires: its first pass draws from text; leave it out where a picture is given.",
                param="hires",
            )
        strength = limits.strength(strength, default_strength, request.num_inference_steps)
        own = await self.intake.size(image)
        width, height = limits.size_from(size, own, request.output_format)
        return replace(request, strength=strength, width=width, height=height)

    async def _file(self, tenant_id: UUID, image: str) -> bytes:
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
            picture = await self.pictures.get(tenant_id, image_id)
            files = [each for each in picture.variants if each.name == ORIGINAL]
            if not files:
                raise missing
            return await self.files.whole(tenant_id, files[0])
        except (ImageNotFound, ImageDeleted) as error:
            raise missing from error
