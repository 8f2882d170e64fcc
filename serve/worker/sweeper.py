"""Deletes files that no picture names: what lost claims and failed deliveries leave in storage."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import TypeVar

import structlog

from serve.clock import clock
from serve.database import Database, DatabaseUnavailable
from serve.models.repository import lock_changes, used_loras
from serve.pictures.repository import forget_lost_sources, forget_sources, orphans
from serve.pictures.stored_file import LoraKey, PictureKey, SourceKey
from serve.settings import JobSettings
from serve.storage import ObjectMissing, Storage, StorageError, StoredObject
from serve.supervise import RoundDone, ignore_round
from serve.worker.errors import ForeignStorage
from serve.worker.repository import SWEEPER_LOCK, database_identity, try_lock

log = structlog.get_logger(__name__)

K = TypeVar("K")

OWNER_KEY = "sfumato/owner"


class Sweeper:
    """Runs in every ingress; by an advisory lock one at a time works.

    Why it never takes a file that is, or will be, a picture's: it deletes only what lies under a
    picture's key, whose job has ended or is gone, and which no row of `variants` names. Such rows
    are written in the transaction that ends a running image (`Claims.complete`), and a job that
    has ended has no running image, ever again. Both are read in one statement, so of one moment:
    from then on no row can come to name the file. An attempt in flight belongs to a live job, or
    else its commit is going to fail. Age is not needed for this, and clocks that differ do no
    harm; it leaves time for a person to notice, say, a database restored from an old backup.

    A source (`serve.pictures.source_key`) goes when no job names it and nobody has sent it for as
    long as that age. Its row is locked meanwhile: a job that would name it waits, and is then
    refused.

    A LoRA's file goes when in two rounds no row names it and no job that has not ended: a job may
    be accepted while it is removed. Uploads wait meanwhile.

    A storage belongs to the database that sweeps it first, as an object in it says: a second
    database on the same storage, to which every file would be an orphan, is refused.
    """

    def __init__(self, database: Database, storage: Storage, settings: JobSettings) -> None:
        self._database = database
        self._storage = storage
        self._settings = settings
        self._unused_loras: set[str] = set()

    async def run(self, round_done: RoundDone = ignore_round) -> None:
        """Sweep until cancelled, whatever fails: a file too many is no reason to stop serving."""
        while self._settings.sweep_every_s:
            try:
                await self.sweep()
                round_done()
            except (DatabaseUnavailable, StorageError, ForeignStorage) as error:
                log.warning("sweeper.failed", error=str(error))
            except Exception:
                log.exception("sweeper.broken")
            await asyncio.sleep(self._settings.sweep_every_s)

    async def sweep(self) -> int:
        """One round over all of storage, page by page; the number of files deleted.

        Raises:
            DatabaseUnavailable, StorageError: what was deleted by then stays so.
            ForeignStorage: the storage is another database's.
        """
        async with self._database.transaction() as session:  # whose lock it holds meanwhile
            if not await try_lock(session, SWEEPER_LOCK):
                return 0
            await self._own(await database_identity(session))
            before = await clock(session) - timedelta(seconds=self._settings.orphan_age_s)
            deleted = 0
            async for page in self._storage.list():
                deleted += await self._sweep_page(page, before)
                deleted += await self._sweep_sources(page, before)
                deleted += await self._sweep_loras(page, before)
            async with self._database.transaction() as sources:
                await forget_lost_sources(sources, before)
            remains = await self._storage.remove_remains(before)
        log.info("sweeper.swept", deleted=deleted, remains=remains)
        return deleted

    async def _sweep_page(self, page: Sequence[StoredObject], before: datetime) -> int:
        files = _old_keys(page, before, PictureKey.parse)
        if not files:
            return 0
        async with self._database.transaction() as session:
            unnamed = await orphans(session, files)
        if unnamed:
            await self._storage.delete(unnamed)
        return len(unnamed)

    async def _sweep_sources(self, page: Sequence[StoredObject], before: datetime) -> int:
        """Within the transaction: a client that uploads one again waits until it is gone."""
        keys = _old_keys(page, before, SourceKey.parse)
        async with self._database.transaction() as session:
            gone = await forget_sources(session, keys, before)
            if gone:
                await self._storage.delete([str(key) for key in gone])
        return len(gone)

    async def _sweep_loras(self, page: Sequence[StoredObject], before: datetime) -> int:
        keys = _old_keys(page, before, LoraKey.parse)
        if not keys:
            return 0
        async with self._database.transaction() as session:
            await lock_changes(session)
            unused = {key.sha256 for key in keys} - await used_loras(session)
            gone = unused & self._unused_loras
            if gone:
                await self._storage.delete([str(LoraKey(sha256)) for sha256 in gone])
        self._unused_loras = (self._unused_loras - {key.sha256 for key in keys}) | (unused - gone)
        return len(gone)

    async def _own(self, identity: str) -> None:
        try:
            owner = (await self._storage.get(OWNER_KEY)).decode(errors="replace")
        except ObjectMissing:
            await self._storage.put(OWNER_KEY, identity.encode(), "text/plain")
            return
        if owner != identity:
            raise ForeignStorage(
                f"{self._storage!r} holds another database's pictures: give each database its own "
                f"SFUMATO_STORAGE_URL, or, if this one has replaced the other (a restored dump, a "
                f"new Postgres version), delete the object {OWNER_KEY}."
            )


def _old_keys(
    page: Sequence[StoredObject], before: datetime, parse: Callable[[str], K | None]
) -> list[K]:
    """The keys of one kind whose files are older than that."""
    old = (parse(found.key) for found in page if found.modified < before)
    return [key for key in old if key is not None]
