"""A version that is newer than the service, beside it on the same database."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg

from loadtests.chaos.faults.fault import Fault, Scene
from loadtests.chaos.snapshot import connect

_BUSY_TIMEOUT_S = 5.0
_ASK = """
    UPDATE jobs SET params = params || '{"of_a_newer_version": true}' WHERE id IN (
        SELECT id FROM jobs WHERE state = 'queued' ORDER BY id LIMIT 3 FOR UPDATE SKIP LOCKED
    ) RETURNING id::text"""
_TELL = """
    WITH job AS (
        UPDATE jobs SET last_seq = last_seq + 1 WHERE id IN (
            SELECT id FROM jobs WHERE state IN ('queued', 'running') ORDER BY id LIMIT 3
            FOR UPDATE SKIP LOCKED
        ) RETURNING id, last_seq
    )
    INSERT INTO events (job_id, seq, type, data)
    SELECT id, last_seq, 'job.of_a_newer_version', '["not", "an", "object"]' FROM job
    RETURNING job_id::text"""
_WITHDRAW = "UPDATE jobs SET params = params - 'of_a_newer_version' WHERE params ? $1"


class NewerRows(Fault):
    """Queued jobs ask for what no worker knows, and live ones tell of an unknown event.

    Healing makes the jobs readable, as if a newer worker had come.
    """

    async def inject(self, scene: Scene, seconds: float) -> dict[str, Any]:
        connection = await connect(scene.service.postgres_sockets)
        until = asyncio.get_running_loop().time() + _BUSY_TIMEOUT_S
        while not (asked := await connection.fetch(_ASK)):
            if asyncio.get_running_loop().time() > until:
                break
            await asyncio.sleep(0.02)
        told = await connection.fetch(_TELL)
        await connection.close()
        return {"unreadable": [row[0] for row in asked], "told": [row[0] for row in told]}

    async def heal(self, scene: Scene) -> dict[str, Any]:
        while True:
            try:
                connection = await connect(scene.service.postgres_sockets)
                await connection.execute(_WITHDRAW, "of_a_newer_version")
                await connection.close()
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                await asyncio.sleep(0.5)
            else:
                return {}
