"""Where pictures are kept: a local folder or an S3 bucket, behind one protocol.

Objects are written once and never changed: a key names one attempt's file, so nobody ever needs
to overwrite, and a writer who would is told.
"""

from __future__ import annotations

import asyncio
import os
import re
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore, S3Store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from obstore.store import ObjectStore

# Segments of letters, digits, `-`, `_` and `.`, none of which starts with a dot.
_KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*", re.ASCII)
_LONGEST_KEY = 512
_S3_TIMEOUT = timedelta(seconds=30)


class StorageError(Exception):
    """Storage could not do what was asked; the message names the cure."""


class ObjectMissing(StorageError):
    """There is no object of this key."""


class ObjectExists(StorageError):
    """There is another object of this key already; it was left as it is."""


class InvalidKey(StorageError):
    """The key could mean something else than one object inside this storage."""


class StorageUnavailable(StorageError):
    """The disk or the bucket failed; the same call may succeed later."""


class InvalidStorageUrl(StorageError):
    """The address names no kind of storage that we have."""


class Storage(Protocol):
    """Bytes by key, such as `tenant/job/0/1/original.png`. Picklable; cheap to open again.

    Every method raises `InvalidKey` for a key (or prefix) with anything but letters, digits,
    `-`, `_`, `.` and `/`, or with a segment that starts with a dot; and `StorageUnavailable` when
    the disk or the network fails.
    """

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

    async def delete(self, keys: Sequence[str]) -> None:
        """Removes objects; those that are missing are passed over."""

    def list(self, prefix: str = "") -> AsyncIterator[str]:
        """The keys below a prefix of whole segments, in no order; all keys without one."""


def open_storage(url: str) -> Storage:
    """Opens `file:///folder` (made when missing) or `s3://bucket/prefix`.

    S3 credentials, region and endpoint come from the usual `AWS_*` variables or the machine's
    role. No request is made yet.

    Raises:
        InvalidStorageUrl: another kind of address.
        StorageUnavailable: the folder cannot be made, or S3's configuration is wrong.
    """
    parts = urlsplit(url)
    if parts.scheme == "file" and parts.netloc in {"", "localhost"} and parts.path:
        return FolderStorage(Path(unquote(parts.path)))
    if parts.scheme == "s3" and parts.netloc:
        return BucketStorage(url)
    raise InvalidStorageUrl(
        f"{url!r} is no storage: give file:///folder or s3://bucket/prefix as SFUMATO_STORAGE_URL."
    )


class _ObjectStorage:
    """What a folder and a bucket have in common."""

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
            raise ObjectMissing(
                f"There is no object {key!r} in {self._place}: it was deleted, or this process "
                "looks at another storage than the one that wrote it."
            ) from None
        except (BaseError, OSError) as error:
            raise self._unavailable(error) from error

    async def delete(self, keys: Sequence[str]) -> None:
        valid = [checked(key) for key in keys]
        try:
            try:
                await obstore.delete_async(self._store, valid)
            except FileNotFoundError:
                # A folder stops at the first one missing; a bucket never minds.
                for key in valid:
                    with suppress(FileNotFoundError):
                        await obstore.delete_async(self._store, key)
        except (BaseError, OSError) as error:
            raise self._unavailable(error) from error

    async def list(self, prefix: str = "") -> AsyncIterator[str]:
        folder = checked(prefix.rstrip("/")) if prefix else None
        try:
            async for chunk in obstore.list(self._store, folder):
                for meta in chunk:
                    yield meta["path"]
        except (BaseError, OSError) as error:
            raise self._unavailable(error) from error

    async def _expect(self, key: str, data: bytes) -> None:
        if await self.get(key) != data:
            raise ObjectExists(
                f"There is another object {key!r} in {self._place} already; objects never change: "
                "write under another key."
            )

    def _unavailable(self, error: Exception) -> StorageUnavailable:
        # obstore adds a dump of its internals after the first line.
        reason = str(error).partition("\n")[0]
        return StorageUnavailable(
            f"{self._place} failed: {reason}. Check that it exists, is writable and has room, and "
            "for S3 the AWS_* credentials, region and endpoint."
        )


class FolderStorage(_ObjectStorage):
    """Objects as files of a folder. The media type isn't kept: the caller's row has it."""

    def __init__(self, folder: Path) -> None:
        try:
            store = LocalStore(folder, mkdir=True)
        except (BaseError, OSError) as error:
            raise StorageUnavailable(
                f"The folder {folder} cannot be used: {str(error).partition(chr(10))[0]}. Make it "
                "writable, or set SFUMATO_STORAGE_URL to another one."
            ) from error
        super().__init__(store, folder.as_uri())
        self._folder = folder

    async def put(self, key: str, data: bytes, media_type: str) -> None:
        path = checked(key)
        try:
            # Written beside its place, then linked there: never seen half.
            await obstore.put_async(self._store, path, data, mode="create", use_multipart=False)
        except AlreadyExistsError:
            await self._expect(path, data)
        except (BaseError, OSError) as error:
            raise self._unavailable(error) from error
        try:
            await asyncio.to_thread(self._sync, path)
        except OSError as error:
            raise self._unavailable(error) from error

    def _sync(self, key: str) -> None:
        """Makes the file and its names durable, which obstore leaves to the kernel's leisure.

        The database, which does sync, must not survive a power cut that its pictures don't.
        """
        file = self._folder / key
        for path in [file, *(self._folder / parent for parent in Path(key).parents)]:
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


class BucketStorage(_ObjectStorage):
    """Objects of an S3 bucket, or of anything that speaks its protocol."""

    def __init__(self, url: str) -> None:
        try:
            store = S3Store.from_url(
                url,
                client_options={"timeout": _S3_TIMEOUT, "allow_http": True},
                retry_config={"max_retries": 4, "retry_timeout": _S3_TIMEOUT},
            )
        except (BaseError, ValueError) as error:
            raise StorageUnavailable(
                f"{url} cannot be used: {str(error).partition(chr(10))[0]}. Check the AWS_* "
                "variables."
            ) from error
        super().__init__(store, url)

    async def put(self, key: str, data: bytes, media_type: str) -> None:
        try:
            await obstore.put_async(
                self._store,
                checked(key),
                data,
                attributes={"Content-Type": media_type},
                mode="create",
                # One request is atomic, and can be refused where the key exists; parts cannot.
                use_multipart=False,
            )
        except AlreadyExistsError:
            await self._expect(key, data)
        except (BaseError, OSError) as error:
            raise self._unavailable(error) from error


def checked(key: str) -> str:
    """The key itself, once it is known to name one object inside the storage.

    Raises:
        InvalidKey: it doesn't.
    """
    if len(key) > _LONGEST_KEY or not _KEY.fullmatch(key):
        raise InvalidKey(
            f"{key[:80]!r} is no key: use at most {_LONGEST_KEY} letters, digits, '-', '_', '.' "
            "and '/', and start no segment with a dot."
        )
    return key
