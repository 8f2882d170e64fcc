"""Pictures that clients send in, from the upload to the engine."""

from __future__ import annotations

import asyncio
import hashlib
from uuid import UUID

import structlog

from serve.database import Database
from serve.pictures import repository
from serve.pictures.source_key import SourceKey
from serve.storage import Storage, StorageUnavailable

log = structlog.get_logger(__name__)

_PUT_S = 30.0


class Sources:
    """Keeps what comes in, before the job that names it is accepted."""

    def __init__(self, database: Database, storage: Storage) -> None:
        self._database = database
        self._storage = storage

    async def keep(self, tenant_id: UUID, *files: bytes) -> list[str]:
        """The SHA-256 of each PNG file; once this returns they survive a crash.

        The row comes first: from then on the sweeper lets the file be for as long as it lets any
        file be, and a job that names it keeps it.

        Raises:
            DatabaseUnavailable, StorageUnavailable: nothing is lost by doing it again.
        """
        keys = [SourceKey(tenant_id, hashlib.sha256(file).hexdigest()) for file in files]
        async with self._database.transaction() as session:
            await repository.touch_sources(session, keys)
        try:
            async with asyncio.timeout(_PUT_S):
                for key, file in zip(keys, files, strict=True):
                    await self._storage.put(str(key), file, "image/png")
        except TimeoutError as error:
            raise StorageUnavailable(f"Storage did not answer within {_PUT_S:g} s.") from error
        return [key.sha256 for key in keys]
