"""Watches who holds which picture, and who is alive, past every proxy."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg

from loadtests.chaos.history import History, Operation, Phase
from loadtests.chaos.snapshot import connect

_EVERY_S = 0.25
_RUNNING = """
    SELECT id::text, worker_id::text, attempt, crashes FROM images
    WHERE state = 'running' ORDER BY id"""
_BEATS = "SELECT id::text, extract(epoch FROM heartbeat_at)::float8 FROM workers"


async def sample(socket_folder: Callable[[], Path], history: History) -> None:
    """Record every change until cancelled; while Postgres is away there is none.

    ``socket_folder`` is asked anew for each connection: another Postgres may have taken over.
    """
    connection: Any = None
    held: dict[str, Any] | None = None
    beats: dict[str, float] = {}
    while True:
        try:
            if connection is None or connection.is_closed():
                connection = await connect(socket_folder())
            now_held = {image: holder for image, *holder in await connection.fetch(_RUNNING)}
            now_beats = dict(await connection.fetch(_BEATS))
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            connection = None
        else:
            if now_held != held:
                history.add("sampler", Phase.OK, Operation.CLAIMS, held=now_held)
            for worker, wall in now_beats.items():
                if wall != beats.get(worker):
                    history.add("sampler", Phase.OK, Operation.BEAT, worker=worker, wall=wall)
            held, beats = now_held, now_beats
        await asyncio.sleep(_EVERY_S)
