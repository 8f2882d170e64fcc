"""Files of pictures, each compared with its hash before it is sent.

Why, and what it costs: docs/decisions/0040-what-leaves-the-service.md.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from time import monotonic
from typing import NoReturn
from uuid import UUID

import structlog

from serve.observability.meter import Meter
from serve.observability.metrics import DAMAGED_FILES
from serve.pictures.errors import FileDamaged
from serve.pictures.pictures import Pictures
from serve.storage import ObjectMissing, Storage
from serve.tables import Variant

log = structlog.get_logger(__name__)

_TRUSTED_S = 600.0
_TRUSTED_FILES = 10_000
_BUCKET_URL_S = 60  # a client follows a redirect at once


class CheckedFiles:
    """Compares what storage holds with the size and the SHA-256 in the variant's row.

    A whole file is hashed each time. A file of which only a part or the headers are requested is
    hashed once, and then trusted for ten minutes, as long as storage's tag for it stays the same.

    Every method raises `FileDamaged` for a file that is missing, cut or altered, `ImageDeleted`
    if its picture was deleted meanwhile, and `StorageUnavailable`.
    """

    def __init__(
        self, storage: Storage, pictures: Pictures, meter: Meter, *, redirects: bool = False
    ) -> None:
        """``redirects`` is whether `bucket_url` names any."""
        self._redirects = redirects
        self._storage = storage
        self._pictures = pictures
        self._meter = meter
        self._trusted: OrderedDict[str, tuple[str, float]] = OrderedDict()  # tag, until when

    async def whole(self, tenant_id: UUID, file: Variant) -> bytes:
        """The file."""
        try:
            content = await self._storage.get(file.storage_key)
        except ObjectMissing:
            await self._refuse(tenant_id, file, "missing")
        if len(content) != file.size:
            await self._refuse(tenant_id, file, "size")
        digest = await asyncio.to_thread(hashlib.sha256, content)
        if digest.hexdigest() != file.sha256:
            await self._refuse(tenant_id, file, "content")
        return content

    async def part(self, tenant_id: UUID, file: Variant, span: range) -> bytes:
        """These bytes of the file."""
        content = await self.check(tenant_id, file)
        if content is not None:
            return content[span.start : span.stop]
        try:
            part = await self._storage.get_range(file.storage_key, span.start, span.stop)
        except ObjectMissing:
            await self._refuse(tenant_id, file, "missing")
        if len(part) != len(span):
            await self._refuse(tenant_id, file, "size")
        return part

    async def bucket_url(self, tenant_id: UUID, file: Variant) -> str | None:
        """The bucket's own URL of the file, once it is checked; None if there is to be none."""
        if not self._redirects:
            return None
        url = await self._storage.signed_url(file.storage_key, _BUCKET_URL_S)
        if url is not None:
            await self.check(tenant_id, file)
        return url

    async def check(self, tenant_id: UUID, file: Variant) -> bytes | None:
        """The file, if it had to be read to be checked; None if it is trusted."""
        try:
            stored = await self._storage.look(file.storage_key)
        except ObjectMissing:
            await self._refuse(tenant_id, file, "missing")
        if stored.size != file.size:
            await self._refuse(tenant_id, file, "size")
        tag, until = self._trusted.get(file.storage_key, (None, 0.0))
        if stored.tag is not None and stored.tag == tag and monotonic() < until:
            return None
        content = await self.whole(tenant_id, file)
        if stored.tag is not None:  # a file that changed since then has another tag by now
            self._trusted[file.storage_key] = (stored.tag, monotonic() + _TRUSTED_S)
            self._trusted.move_to_end(file.storage_key)
            if len(self._trusted) > _TRUSTED_FILES:
                self._trusted.popitem(last=False)
        return content

    async def _refuse(self, tenant_id: UUID, file: Variant, fault: str) -> NoReturn:
        await self._pictures.get(tenant_id, file.image_id)  # deleted meanwhile, if it raises
        self._meter.count(DAMAGED_FILES, fault=fault)
        log.error("api.file_damaged", fault=fault, storage_key=file.storage_key)
        damage = "is missing from storage" if fault == "missing" else "was altered in storage"
        raise FileDamaged(
            f"The file {file.name!r} of image {file.image_id} {damage}, and is not served: bring it"
            " back from a backup, or draw the picture again with its seed."
        )
