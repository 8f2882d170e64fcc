"""What a transaction may ask of Postgres itself."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import (
    func,
    select,
)

from serve.database import Session

REAPER_LOCK = 0x5F0A70  # any constant that nothing else in this database locks


async def clock(session: Session) -> datetime:
    """The database's clock: the only one that counts."""
    now: datetime = (await session.scalars(select(func.clock_timestamp()))).one()
    return now


async def try_reaper_lock(session: Session) -> bool:
    """One reaper at a time; the lock ends with the transaction."""
    return bool(await session.scalar(select(func.pg_try_advisory_xact_lock(REAPER_LOCK))))
