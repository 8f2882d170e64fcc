"""Objects as files of a folder."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import secrets
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from obstore.exceptions import BaseError
from obstore.store import LocalStore

from serve.storage.errors import StorageForbidden, StorageFull, StorageUnavailable
from serve.storage.key import checked, is_key
from serve.storage.objects import ObjectStorage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from datetime import datetime

    from serve.storage.protocol import StoredObject

# The name of a file that is still being written; obstore too names its own so, and lists none.
_STAGED = re.compile(r"(.+)#\d+")
_FULL = {errno.ENOSPC, errno.EDQUOT}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
_ELSEWHERE = "or set SFUMATO_STORAGE_URL to another folder"
_TRIES = 10


class FolderStorage(ObjectStorage):
    """Keeps no media type: the caller's row has it. Made when missing, but only on opening."""

    def __init__(self, folder: Path, *, make: bool = True) -> None:
        self._folder = folder
        self._place = folder.as_uri()
        self._mounted = False
        try:
            if not make:
                self._check_presence()
            store = LocalStore(folder, mkdir=make, automatic_cleanup=True)
        except (BaseError, OSError) as error:
            raise self._unavailable(error) from error
        super().__init__(store, folder.as_uri())
        self._mounted = folder.is_mount()

    async def put(self, key: str, data: bytes, media_type: str) -> None:
        path = checked(key)
        try:
            await asyncio.to_thread(self._write, path, data)
        except FileExistsError:
            await self._expect(path, data)
        except OSError as error:
            raise self._unavailable(error) from error
        try:
            await asyncio.to_thread(self._sync_names, path)
        except OSError as error:
            raise self._unavailable(error) from error

    async def get(self, key: str) -> bytes:
        await self._look()
        return await super().get(key)

    async def look(self, key: str) -> StoredObject:
        await self._look()
        return await super().look(key)

    async def get_range(self, key: str, start: int, stop: int) -> bytes:
        await self._look()
        return await super().get_range(key, start, stop)

    async def delete(self, keys: Sequence[str]) -> None:
        await self._look()
        await super().delete(keys)

    async def list(self, prefix: str = "") -> AsyncIterator[Sequence[StoredObject]]:
        await self._look()
        async for page in super().list(prefix):
            yield page

    async def remove_remains(self, before: datetime) -> int:
        await self._look()
        try:
            return await asyncio.to_thread(_remove_remains, str(self._folder), before.timestamp())
        except OSError as error:
            raise self._unavailable(error) from error

    async def _delete(self, keys: Sequence[str]) -> None:
        try:
            await super()._delete(keys)
        except FileNotFoundError:  # it stops at the first one missing
            for key in keys:
                with suppress(FileNotFoundError):
                    await super()._delete([key])

    def _write(self, key: str, data: bytes) -> None:
        """Written and synced beside its place, then linked there: never seen half.

        Once linked it stays, whatever fails afterwards: another call may have found it there
        already, and answered that all is well.
        """
        self._check_presence()
        file = self._folder / key
        staged = file.with_name(f"{file.name}#{secrets.randbelow(10**12)}")
        try:
            self._stage(staged, data)
            os.link(staged, file)
        finally:
            with suppress(OSError):
                staged.unlink()
            self._drop_empty(file.parent)

    def _stage(self, staged: Path, data: bytes) -> None:
        for attempt in range(_TRIES):
            try:
                staged.parent.mkdir(parents=True, exist_ok=True)
                descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
                break
            except FileNotFoundError:  # somebody took the empty folder away
                if attempt == _TRIES - 1:
                    raise
        with open(descriptor, "wb", buffering=0) as file:  # noqa: PTH123 - a descriptor
            rest = memoryview(data)
            while rest:
                rest = rest[file.write(rest) :]
            os.fsync(descriptor)

    def _drop_empty(self, folder: Path) -> None:
        """Removes the folders of a write that failed, up to the first that holds something."""
        for parent in [folder, *folder.parents]:
            if parent == self._folder:
                return
            try:
                parent.rmdir()
            except FileNotFoundError:
                continue
            except OSError:
                return

    def _sync_names(self, key: str) -> None:
        """Makes the file's names durable, which the kernel does at its leisure.

        The database, which does sync, must not survive a power cut that its pictures don't.
        """
        for parent in Path(key).parents:
            descriptor = os.open(self._folder / parent, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    async def _look(self) -> None:
        """obstore would make a folder that is gone, or find it empty."""
        try:
            await asyncio.to_thread(self._check_presence)
        except OSError as error:
            raise self._unavailable(error) from error

    def _check_presence(self) -> None:
        if not self._folder.is_dir():
            raise StorageUnavailable(
                f"{self._place} is gone: mount it or make it again, {_ELSEWHERE}."
            )
        if self._mounted and not self._folder.is_mount():
            raise StorageUnavailable(f"{self._place} is no longer mounted: mount it again.")

    def _unavailable(self, error: Exception) -> StorageUnavailable:
        code = _errno(error)
        reason = os.strerror(code) if code else "no further reason given"
        if code in _FULL:
            return StorageFull(f"The disk of {self._place} is full: make room on it, {_ELSEWHERE}.")
        if code in _FORBIDDEN:
            return StorageForbidden(
                f"{self._place} cannot be used: {reason}. Make it writable, {_ELSEWHERE}."
            )
        return StorageUnavailable(f"{self._place} failed: {reason}. Check the disk, {_ELSEWHERE}.")


def _errno(error: Exception) -> int | None:
    if isinstance(error, OSError) and error.errno:
        return error.errno
    told = re.search(r"\(os error (\d+)\)", str(error))  # obstore keeps it in its text alone
    return int(told[1]) if told else None


def _remove_remains(folder: str, before: float) -> int:
    """Depth first, one open folder a level, however many files there are."""
    removed = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            staged = _STAGED.fullmatch(entry.name)
            if not is_key(staged[1] if staged else entry.name):
                continue  # somebody else's
            with suppress(FileNotFoundError):  # taken meanwhile
                old = entry.stat(follow_symlinks=False).st_mtime < before
                if entry.is_dir(follow_symlinks=False):
                    removed += _remove_remains(entry.path, before)
                    removed += old and _removed_empty(entry.path)
                elif staged and old:
                    Path(entry.path).unlink()
                    removed += 1
    return removed


def _removed_empty(folder: str) -> bool:
    try:
        Path(folder).rmdir()
    except OSError as error:
        if error.errno in {errno.ENOTEMPTY, errno.EEXIST, errno.EBUSY, errno.ENOENT}:
            return False
        raise
    return True
