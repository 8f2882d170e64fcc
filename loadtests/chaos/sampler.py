"""Watches who holds which picture, past every proxy."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import asyncpg

from loadtests.chaos.history import History, Operation, Phase
from loadtests.chaos.snapshot import connect

_EVERY_S = 0.25
_RUNNING = """
    SELECT id::text, worker_id::text, attempt, crashes FROM images
    WHERE state = 'running' ORDER BY id"""


async def sample(socket_folder: Path, history: History) -> None:
    """Record every change until cancelled; while Postgres is away there is none."""
    connection: Any = None
    before: list[Any] | None = None
    while True:
        try:
            if connection is None or connection.is_closed():
                connection = await connect(socket_folder)
            rows = [tuple(row) for row in await connection.fetch(_RUNNING)]
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            connection = None
        else:
            if rows != before:
                held = {image: holder for image, *holder in rows}
                history.add("sampler", Phase.OK, Operation.CLAIMS, held=held)
                before = rows
        await asyncio.sleep(_EVERY_S)
