"""One reaper, one sweeper: advisory locks, and which database it is."""

from __future__ import annotations

from sqlalchemy import func, select, text

from serve.database import Session

REAPER_LOCK = 0x5F0A70  # any constant that nothing else in this database locks


SWEEPER_LOCK = 0x5F0A72  # 71 is the migrations'


async def try_reaper_lock(session: Session) -> bool:
    """One reaper at a time; the lock ends with the transaction."""
    return bool(await session.scalar(select(func.pg_try_advisory_xact_lock(REAPER_LOCK))))


async def try_sweeper_lock(session: Session) -> bool:
    """One sweeper at a time; the lock ends with the transaction."""
    return bool(await session.scalar(select(func.pg_try_advisory_xact_lock(SWEEPER_LOCK))))


async def database_identity(session: Session) -> str:
    """Tells this database from any other, a restored dump of it included."""
    statement = text(
        "SELECT system_identifier || '/' || current_database() FROM pg_control_system()"
    )
    identity: str = (await session.scalars(statement)).one()
    return identity
