"""Queries on workers and their leases."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    bindparam,
    delete,
    func,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from serve.clock import seconds
from serve.database import Session
from serve.tables import Worker, numbers_of

_RECENT_S = 10.0


async def insert_worker(session: Session, model: str, device: str, slots: int) -> UUID:
    statement = insert(Worker).values(model=model, device=device, slots=slots)
    return (await session.scalars(statement.returning(Worker.id))).one()


_CLAIMING = select(func.array_agg(Worker.id), func.clock_timestamp()).where(
    Worker.model == bindparam("model"), ~Worker.draining
)


async def claiming_workers(session: Session, model: str) -> tuple[Sequence[UUID], datetime]:
    """The workers of this default model that claim pictures, and the database's clock."""
    ids, now = (await session.execute(_CLAIMING, {"model": model})).one()
    return ids or [], now


async def claiming_slots(session: Session, model: str) -> tuple[int, int]:
    """How many workers of this default model claim pictures, and the places in their steps."""
    statement = select(func.count(), func.coalesce(func.sum(Worker.slots), 0)).where(
        Worker.model == model, ~Worker.draining
    )
    workers, slots = (await session.execute(statement)).one()
    return workers, slots


async def free_places_elsewhere(session: Session, model: str, worker_id: UUID) -> int:
    """Places in the next steps of the other workers, as they told with their last heartbeats."""
    statement = select(Worker.slots, Worker.stats).where(
        Worker.model == model,
        Worker.id != worker_id,
        ~Worker.draining,
        Worker.heartbeat_at > _ago(_RECENT_S),
    )
    places = 0
    for slots, stats in await session.execute(statement):
        told = numbers_of(stats)
        places += max(0, slots - int(told.get("active", 0) + told.get("waiting", 0)))
    return places


async def beat(session: Session, worker_id: UUID, stats: dict[str, Any], draining: bool) -> bool:
    """Renew the worker's lease, or False where the reaper took it."""
    statement = (
        update(Worker)
        .where(Worker.id == worker_id)
        .values(heartbeat_at=func.clock_timestamp(), stats=stats, draining=draining)
        .returning(Worker.id)
        .execution_options(synchronize_session=False)
    )
    return await session.scalar(statement) is not None


async def delete_worker(session: Session, worker_id: UUID) -> None:
    await session.execute(delete(Worker).where(Worker.id == worker_id))


async def live_workers(session: Session, lease_s: float) -> Sequence[Worker]:
    return (
        await session.scalars(
            select(Worker).where(Worker.heartbeat_at > _ago(lease_s)).order_by(Worker.id)
        )
    ).all()


async def delete_silent_workers(session: Session, lease_s: float) -> Sequence[UUID]:
    """Those unheard for a lease."""
    statement = delete(Worker).where(Worker.heartbeat_at <= _ago(lease_s)).returning(Worker.id)
    return (await session.scalars(statement)).all()


def _ago(number: float) -> Any:
    return func.clock_timestamp() - seconds(number)
