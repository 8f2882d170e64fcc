"""What every storage does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object as storage tells of it; ``size`` in bytes, ``modified`` by storage's clock.

    ``tag`` is another one once the object is written again, as far as storage can see; None where
    it has none.
    """

    key: str
    size: int
    modified: datetime
    tag: str | None = None


class Storage(Protocol):
    """Bytes by key, such as `job/image/1/original.png`. Picklable; cheap to open again.

    Every method raises `InvalidKey` for a key (or prefix) with anything but letters, digits,
    `-`, `_`, `.` and `/`, or with a segment that starts with a dot; and `StorageUnavailable` when
    the disk or the network fails: `StorageFull` and `StorageForbidden` where waiting won't help.
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

    async def look(self, key: str) -> StoredObject:
        """Asks for an object without reading it.

        Raises:
            ObjectMissing: there is none.
        """

    async def get_range(self, key: str, start: int, stop: int) -> bytes:
        """Reads the bytes of an object from ``start`` to before ``stop``, where it has so many.

        Raises:
            ObjectMissing: there is none.
        """

    async def delete(self, keys: Sequence[str]) -> None:
        """Removes objects; those that are missing are passed over."""

    def list(self, prefix: str = "") -> AsyncIterator[Sequence[StoredObject]]:
        """Pages of the objects below a prefix of whole segments, in no order; all without one.

        What was put or deleted meanwhile may be among them or not; files that are no objects of
        ours never are.
        """

    async def remove_remains(self, before: datetime) -> int:
        """Removes what writes cut short before then left behind; says how many things.

        A folder may hold staged files and empty folders; a bucket holds nothing of the kind.
        """
