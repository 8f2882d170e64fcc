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

from obstore.store import LocalStore

from serve.observability.meter import UNMETERED, Meter
from serve.storage.storage import (
    Storage,
    StorageForbidden,
    StorageFull,
    StorageUnavailable,
    checked_key,
    is_key,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

# The name of a file that is still being written; obstore too names its own so, and lists none.
_STAGED = re.compile(r"(.+)#\d+")
_FULL = {errno.ENOSPC, errno.EDQUOT}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
_ELSEWHERE = "or set SFUMATO_STORAGE_URL to another folder"
_TRIES = 10


class FolderStorage(Storage):
    """Keeps no media type: the caller's row has it. Made when missing, but only on opening."""

    def __init__(self, folder: Path, meter: Meter = UNMETERED, *, make: bool = True) -> None:
        self._folder = folder
        self._place = folder.as_uri()
        self._mounted = False
        with self._errors():
            if not make:
                self._expect_folder()
            store = LocalStore(folder, mkdir=make, automatic_cleanup=True)
        super().__init__(store, folder.as_uri(), meter)
        self._mounted = folder.is_mount()

    async def put(self, key: str, data: bytes, media_type: str) -> None:
        path = checked_key(key)
        with self._operation("put"):
            try:
                await asyncio.to_thread(self._write, path, data)
            except FileExistsError:
                await self._expect(path, data)
            await asyncio.to_thread(self._sync_names, path)

    async def signed_url(self, key: str, ttl_s: int) -> None:
        return None

    async def remove_remains(self, before: datetime) -> int:
        with self._operation("remove_remains"):
            await self._check_presence()
            return await asyncio.to_thread(_remove_remains, str(self._folder), before.timestamp())

    async def _delete(self, keys: Sequence[str]) -> None:
        try:
            await super()._delete(keys)
        except FileNotFoundError:  # obstore stops at the first that is missing
            for key in keys:
                with suppress(FileNotFoundError):
                    await super()._delete([key])

    def _write(self, key: str, data: bytes) -> None:
        """Writes and syncs the file beside its place, then links it there, so that none sees half.

        Once linked it stays, whatever fails afterwards: another call may already have found it
        there and reported success.
        """
        self._expect_folder()
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
            except FileNotFoundError:  # another process removed the empty folder
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
        """Makes the file's names durable, which the kernel would do some time later.

        The database syncs; after a power cut it must not name pictures that are lost.
        """
        for parent in Path(key).parents:
            descriptor = os.open(self._folder / parent, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    async def _check_presence(self) -> None:
        """Without it obstore would make a folder that is gone, or find it empty."""
        await asyncio.to_thread(self._expect_folder)

    def _expect_folder(self) -> None:
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
    number = re.search(r"\(os error (\d+)\)", str(error))  # obstore has it in its text alone
    return int(number[1]) if number else None


def _remove_remains(folder: str, before: float) -> int:
    """Depth first, one open folder a level, however many files there are."""
    removed = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            staged = _STAGED.fullmatch(entry.name)
            if not is_key(staged[1] if staged else entry.name):
                continue  # not one of ours
            with suppress(FileNotFoundError):  # removed meanwhile
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
