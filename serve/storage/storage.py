"""What every storage does, and how it fails: each message is fit for a client, and names a cure."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from time import monotonic
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import BaseError

from serve.observability.meter import Meter
from serve.observability.metrics import STORAGE_OPERATIONS, STORAGE_SECONDS

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import ObjectStore

# Segments of letters, digits, `-`, `_` and `.`, none of which starts with a dot.
_KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*", re.ASCII)
_LONGEST_KEY = 512
_PAGE = 1000  # objects; what S3 lists, and deletes, at once


class StorageError(Exception):
    """Storage could not do what was requested; the message names the cure."""


class ObjectMissing(StorageError):
    """There is no object of this key."""


class ObjectExists(StorageError):
    """There is another object of this key already; it was left as it is."""


class InvalidKey(StorageError):
    """The key could mean something else than one object inside this storage."""


class InvalidStorageUrl(StorageError):
    """The address names no kind of storage that is supported."""


class StorageUnavailable(StorageError):
    """The disk or the bucket failed; the same call may succeed later."""


class StorageFull(StorageUnavailable):
    """There is no room, until somebody makes some."""


class StorageForbidden(StorageUnavailable):
    """Access is denied: rights, a read-only disk, wrong credentials. Waiting does not help."""


_RESULTS: dict[type[Exception], str] = {
    ObjectMissing: "missing",
    ObjectExists: "exists",
    StorageUnavailable: "unavailable",
    StorageFull: "full",
    StorageForbidden: "forbidden",
}


def is_key(text: str) -> bool:
    """Whether it names one object inside a storage."""
    return len(text) <= _LONGEST_KEY and _KEY.fullmatch(text) is not None


def checked_key(key: str) -> str:
    """The key itself.

    Raises:
        InvalidKey: it does not name one object inside the storage.
    """
    if not is_key(key):
        raise InvalidKey(
            f"{key[:80]!r} is no key: use at most {_LONGEST_KEY} letters, digits, '-', '_', '.' "
            "and '/', and start no segment with a dot."
        )
    return key


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object as storage describes it; ``size`` in bytes, ``modified`` by storage's clock.

    ``tag`` changes when the object is written again, as far as storage can see; None if it has
    none.
    """

    key: str
    size: int
    modified: datetime
    tag: str | None = None


class Storage(ABC):
    """Bytes by key, such as `job/image/1/original.png`. Picklable if its meter is; cheap to open.

    Every method raises `InvalidKey` for a key (or prefix) with anything but letters, digits,
    `-`, `_`, `.` and `/`, or with a segment that starts with a dot; and `StorageUnavailable` when
    the disk or the network fails: `StorageFull` and `StorageForbidden` where waiting won't help.
    """

    def __init__(self, store: ObjectStore, place: str, meter: Meter) -> None:
        """``place`` is the address, as the operator gave it."""
        self._meter = meter
        self._store = store
        self._place = place

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._place!r})"

    @abstractmethod
    async def put(self, key: str, data: bytes, media_type: str) -> None:
        """Writes an object whole or not at all; once this returns it survives a crash.

        Putting the same bytes again changes nothing, so that a call may be retried.

        Raises:
            ObjectExists: the key is taken by other bytes.
        """

    async def get(self, key: str) -> bytes:
        """Reads an object.

        Raises:
            ObjectMissing: there is none.
        """
        with self._operation("get", key):
            await self._check_presence()
            result = await obstore.get_async(self._store, checked_key(key))
            return bytes(await result.bytes_async())

    async def look(self, key: str) -> StoredObject:
        """Describes an object without reading it.

        Raises:
            ObjectMissing: there is none.
        """
        with self._operation("look", key):
            await self._check_presence()
            return _stored(await obstore.head_async(self._store, checked_key(key)))

    async def get_range(self, key: str, start: int, stop: int) -> bytes:
        """Reads the bytes of an object from ``start`` to before ``stop``, where it has so many.

        Raises:
            ObjectMissing: there is none.
        """
        path = checked_key(key)
        with self._operation("get_range", key):
            await self._check_presence()
            part = await obstore.get_range_async(self._store, path, start=start, end=stop)
            return bytes(part)

    @abstractmethod
    async def signed_url(self, key: str, ttl_s: int) -> str | None:
        """A URL of the bucket's own that opens the object for so long; None if it is a folder."""

    async def delete(self, keys: Sequence[str]) -> None:
        """Removes objects; those that are missing are passed over."""
        paths = [checked_key(key) for key in keys]
        with self._operation("delete"):
            await self._check_presence()
            await self._delete(paths)

    async def list(self, prefix: str = "") -> AsyncIterator[Sequence[StoredObject]]:
        """Pages of the objects below a prefix of whole segments, in no order; all without one.

        Objects that were put or deleted meanwhile may or may not be among them. Files that this
        service did not write never are.
        """
        folder = checked_key(prefix.rstrip("/")) if prefix else None
        with self._operation("list"):
            await self._check_presence()
            pages = obstore.list(self._store, folder, chunk_size=_PAGE)
            page = await anext(pages, None)
        while page is not None:
            yield [_stored(meta) for meta in page if is_key(meta["path"])]
            with self._operation("list"):
                page = await anext(pages, None)

    @abstractmethod
    async def remove_remains(self, before: datetime) -> int:
        """Removes what writes cut short before then left behind; returns how many things.

        A folder may hold staged files and empty folders; a bucket holds nothing of the kind.
        """

    async def _check_presence(self) -> None:  # noqa: B027 - a folder's alone has something to do
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
    def _operation(self, name: str, key: str | None = None) -> Iterator[None]:
        """Counts and times an operation, and raises as `_errors` does."""
        began, result = monotonic(), "cancelled"
        try:
            with self._errors(key):
                yield
            result = "ok"
        except Exception as error:
            result = _RESULTS.get(type(error), "failed")
            raise
        finally:
            self._meter.count(STORAGE_OPERATIONS, operation=name, result=result)
            self._meter.observe(STORAGE_SECONDS, monotonic() - began, operation=name)

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

    @abstractmethod
    def _unavailable(self, error: Exception) -> StorageUnavailable:
        """The error in our own words."""


def _stored(meta: ObjectMeta) -> StoredObject:
    return StoredObject(meta["path"], meta["size"], meta["last_modified"], meta["e_tag"])
