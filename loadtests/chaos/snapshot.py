"""What the database and the picture store held when the run was over."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import orjson


@dataclass(frozen=True, slots=True)
class JobRow:
    id: str
    state: str
    key: str | None
    n: int
    error: str | None
    last_seq: int
    has_deadline: bool


@dataclass(frozen=True, slots=True)
class ImageRow:
    id: str
    job_id: str
    index: int
    state: str
    attempt: int
    crashes: int
    deleted: bool = False
    """By its client: it has no files any more."""


@dataclass(frozen=True, slots=True)
class VariantRow:
    image_id: str
    name: str
    size: int
    """In bytes."""
    sha256: str
    storage_key: str


@dataclass(frozen=True, slots=True)
class EventRow:
    job_id: str
    seq: int
    type: str
    image_id: str | None
    """Of an event that is about one picture."""


@dataclass(frozen=True, slots=True)
class File:
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Every row that the invariants speak of, and every file by its storage key."""

    jobs: list[JobRow] = field(default_factory=list)
    images: list[ImageRow] = field(default_factory=list)
    variants: list[VariantRow] = field(default_factory=list)
    events: list[EventRow] = field(default_factory=list)
    """By job and number."""
    files: dict[str, File] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        path.write_bytes(orjson.dumps(self, option=orjson.OPT_INDENT_2))


_JOBS = """
    SELECT id::text, state, idempotency_key AS key, n, error, last_seq,
           deadline_at IS NOT NULL AS has_deadline
    FROM jobs ORDER BY id"""
_IMAGES = """
    SELECT id::text, job_id::text, index, state, attempt, crashes,
           deleted_at IS NOT NULL AS deleted
    FROM images ORDER BY id"""
_VARIANTS = """
    SELECT image_id::text, name, size, sha256, storage_key FROM variants ORDER BY image_id, name"""
_EVENTS = """
    SELECT job_id::text, seq, type, data->>'image_id' AS image_id FROM events
    ORDER BY job_id, seq"""


async def take_snapshot(connection: Any, pictures: Path) -> Snapshot:
    """Read it all in one transaction, then the files.

    Args:
        connection: of asyncpg.
        pictures: the folder of the picture store.
    """
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        return Snapshot(
            jobs=[JobRow(**row) for row in await connection.fetch(_JOBS)],
            images=[ImageRow(**row) for row in await connection.fetch(_IMAGES)],
            variants=[VariantRow(**row) for row in await connection.fetch(_VARIANTS)],
            events=[EventRow(**row) for row in await connection.fetch(_EVENTS)],
            files=read_files(pictures),
        )


async def live_images(connection: Any) -> int:
    """Pictures that have not ended."""
    count: int = await connection.fetchval(
        "SELECT count(*) FROM images WHERE state IN ('queued', 'running')"
    )
    return count


async def running_images(connection: Any) -> int:
    """Pictures that a worker holds."""
    count: int = await connection.fetchval("SELECT count(*) FROM images WHERE state = 'running'")
    return count


async def connect(socket_folder: Path) -> Any:
    """A connection of asyncpg that passes by every proxy."""
    return await asyncpg.connect(host=str(socket_folder), user="sfumato", database="sfumato")


def read_files(folder: Path) -> dict[str, File]:
    """Size and hash of every file below the folder, by its path in it."""
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            data = path.read_bytes()
            files[path.relative_to(folder).as_posix()] = File(
                len(data), hashlib.sha256(data).hexdigest()
            )
    return files


def read_snapshot(path: Path) -> Snapshot:
    """What ``save`` wrote."""
    kept = orjson.loads(path.read_bytes())
    return Snapshot(
        jobs=[JobRow(**row) for row in kept["jobs"]],
        images=[ImageRow(**row) for row in kept["images"]],
        variants=[VariantRow(**row) for row in kept["variants"]],
        events=[EventRow(**row) for row in kept["events"]],
        files={key: File(**file) for key, file in kept["files"].items()},
    )
