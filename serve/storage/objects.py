"""What a folder and a bucket have in common."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import BaseError

from serve.storage.protocol import (
    ObjectExists,
    ObjectMissing,
    StorageUnavailable,
    StoredObject,
    checked_key,
    is_key,
)

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import ObjectStore

_PAGE = 1000  # objects; what S3 lists, and deletes, at once


class ObjectStorage:
    """Reads, deletes and lists; ``place`` is the address, as the operator gave it."""

    def __init__(self, store: ObjectStore, place: str) -> None:
        self._store = store
        self._place = place

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._place!r})"

    async def get(self, key: str) -> bytes:
        with self._errors(key):
            await self._check_presence()
            result = await obstore.get_async(self._store, checked_key(key))
            return bytes(await result.bytes_async())

    async def look(self, key: str) -> StoredObject:
        with self._errors(key):
            await self._check_presence()
            return _stored(await obstore.head_async(self._store, checked_key(key)))

    async def get_range(self, key: str, start: int, stop: int) -> bytes:
        path = checked_key(key)
        with self._errors(key):
            await self._check_presence()
            part = await obstore.get_range_async(self._store, path, start=start, end=stop)
            return bytes(part)

    async def delete(self, keys: Sequence[str]) -> None:
        paths = [checked_key(key) for key in keys]
        with self._errors():
            await self._check_presence()
            await self._delete(paths)

    async def list(self, prefix: str = "") -> AsyncIterator[Sequence[StoredObject]]:
        folder = checked_key(prefix.rstrip("/")) if prefix else None
        with self._errors():
            await self._check_presence()
            async for chunk in obstore.list(self._store, folder, chunk_size=_PAGE):
                yield [_stored(meta) for meta in chunk if is_key(meta["path"])]

    async def _check_presence(self) -> None:
        """A request to a bucket that is gone fails by itself."""

    async def _delete(self, keys: Sequence[str]) -> None:
        await obstore.delete_async(self._store, keys)

    async def _expect(self, key: str, data: bytes) -> None:
        if await self.get(key) != data:
            raise ObjectExists(
                f"There is another object {key!r} in {self._place} already; objects never change: "
                "write under another key."
            )

    @contextmanager
    def _errors(self, key: str | None = None) -> Iterator[None]:
        """Raises StorageUnavailable where the disk or the network fails, and ObjectMissing if there
        is no object ``key``."""
        try:
            yield
        except (BaseError, OSError) as error:
            if key is not None and isinstance(error, FileNotFoundError):
                raise ObjectMissing(
                    f"There is no object {key!r} in {self._place}: it was deleted, or this process "
                    "looks at another storage than the one that wrote it."
                ) from None
            raise self._unavailable(error) from error

    def _unavailable(self, error: Exception) -> StorageUnavailable:
        """The error in our own words; each kind of storage has its own."""
        raise NotImplementedError


def _stored(meta: ObjectMeta) -> StoredObject:
    return StoredObject(meta["path"], meta["size"], meta["last_modified"], meta["e_tag"])
