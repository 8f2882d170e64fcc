"""What the artist drew on its schedule: shown to every tenant."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, time
from uuid import UUID

from serve.artist.repository import DAY, exhibited
from serve.artist.schedule import TENANT
from serve.clock import clock
from serve.database import Database
from serve.pictures.signed_urls import SignedUrls
from serve.tables import Image


class Exhibition:
    """The house's own pictures, day by day in UTC."""

    def __init__(self, database: Database, urls: SignedUrls) -> None:
        self._database = database
        self._urls = urls

    async def list(
        self, day: date | None, *, limit: int, after: UUID | None
    ) -> tuple[date, Sequence[Image]]:
        """The day, today where None, and its pictures, the newest first."""
        async with self._database.transaction() as session:
            day = day or (await clock(session)).astimezone(UTC).date()
            since = datetime.combine(day, time(), UTC)
            return day, await exhibited(session, TENANT, since, since + DAY, limit, after)

    async def signatures(self, image: Image) -> dict[str, str]:
        """What opens each file of the picture, by the file's name."""
        return {
            file.name: await self._urls.sign(image.tenant_id, image.id, file.name)
            for file in image.variants
        }
