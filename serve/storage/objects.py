"""What a folder and a bucket have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import BaseError

from serve.storage.errors import ObjectExists, ObjectMissing, StorageUnavailable
from serve.storage.key import checked, is_key
from serve.storage.protocol import StoredObject

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

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
        try:
            result = await obstore.get_async(self._store, checked(key))
            return bytes(await result.bytes_async())
        except FileNotFoundError:
            raise self._missing(key) from None
        except (BaseError, OSError) as error:
            raise self._unavailable(error) from error

    async def look(self, key: str) -> StoredObject:
        try:
            return _told(await obstore.head_async(self._store, checked(key)))
        except FileNotFoundError:
            raise self._missing(key) from None
        except (BaseError, OSError) as error:
            raise self._unavailable(error) from error

    async def get_range(self, key: str, start: int, stop: int) -> bytes:
        try:
            part = await obstore.get_range_async(self._store, checked(key), start=start, end=stop)
            return bytes(part)
        except FileNotFoundError:
            raise self._missing(key) from None
        except (BaseError, OSError) as error:
            raise self._unavailable(error) from error

    async def delete(self, keys: Sequence[str]) -> None:
        valid = [checked(key) for key in keys]
        try:
            await self._delete(valid)
        except (BaseError, OSError) as error:
            raise self._unavailable(error) from error

    async def list(self, prefix: str = "") -> AsyncIterator[Sequence[StoredObject]]:
        folder = checked(prefix.rstrip("/")) if prefix else None
        try:
            async for chunk in obstore.list(self._store, folder, chunk_size=_PAGE):
                yield [_told(meta) for meta in chunk if is_key(meta["path"])]
        except (BaseError, OSError) as error:
            raise self._unavailable(error) from error

    async def _delete(self, keys: Sequence[str]) -> None:
        await obstore.delete_async(self._store, keys)

    async def _expect(self, key: str, data: bytes) -> None:
        if await self.get(key) != data:
            raise ObjectExists(
                f"There is another object {key!r} in {self._place} already; objects never change: "
                "write under another key."
            )

    def _missing(self, key: str) -> ObjectMissing:
        return ObjectMissing(
            f"There is no object {key!r} in {self._place}: it was deleted, or this process "
            "looks at another storage than the one that wrote it."
        )

    def _unavailable(self, error: Exception) -> StorageUnavailable:
        """The error in our own words; each kind of storage has its own."""
        raise NotImplementedError


def _told(meta: ObjectMeta) -> StoredObject:
    return StoredObject(meta["path"], meta["size"], meta["last_modified"], meta["e_tag"])
