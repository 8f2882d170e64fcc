"""Queries on what work there is, and what it costs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, String, Uuid, any_, bindparam, func, select, text
from sqlalchemy.dialects.postgresql import insert

from serve.database import Session
from serve.jobs.turns import EDGES_S, Place, Turn, Waiting
from serve.tables import LIVE, CostProfile, JobState, Tenant

# The states stand in the text: a partial index serves a constant only.
_MODELS = bindparam("models", type_=ARRAY(String))
_WORK = {
    state: text(f"""
        SELECT count(*), coalesce(sum(seconds), 0)
        FROM images WHERE state = '{state}' AND model = ANY(:models)
    """).bindparams(_MODELS)  # noqa: S608 - of constants
    for state in LIVE
}
# An index alone answers it (images_to_claim); by the database's clock, as start_by is.
WAITING = text("""
    SELECT tenant_id, priority, width_bucket(start_by, ARRAY(
        SELECT now() + edge * interval '1 second' FROM unnest(CAST(:edges AS float8[])) AS edge
    )) AS slot, count(*), sum(seconds), max(seconds)
    FROM images WHERE state = 'queued' AND model = ANY(:models) GROUP BY 1, 2, 3
""").bindparams(_MODELS)
_COUNT = text("""
    SELECT (SELECT count(*) FROM (
        SELECT FROM images WHERE state = 'queued' AND model = ANY(:models) LIMIT :most
    ) AS queued) + (
        SELECT count(*) FROM images WHERE state = 'running' AND model = ANY(:models)
    )
""").bindparams(_MODELS)


async def read_work(session: Session, models: Sequence[str], state: JobState) -> tuple[int, float]:
    """Queued or running pictures of the models: how many, and their predicted seconds."""
    count, seconds = (await session.execute(_WORK[state], {"models": list(models)})).one()
    return count, seconds


async def read_waiting(session: Session, models: Sequence[str]) -> dict[Place, Waiting]:
    """The queued pictures of the models, by their place in their tenant's own order."""
    rows = await session.execute(WAITING, {"models": list(models), "edges": list(EDGES_S)})
    return {
        Place(tenant_id, priority, slot): Waiting(count, seconds, dearest_s)
        for tenant_id, priority, slot, count, seconds, dearest_s in rows
    }


async def read_ring(session: Session, tenant_ids: Collection[UUID]) -> dict[UUID, Turn]:
    """When it is whose turn, of these tenants."""
    rows = await session.execute(
        select(Tenant.id, Tenant.weight, Tenant.deficit, Tenant.turn_at).where(
            Tenant.id == any_(bindparam("ids", type_=ARRAY(Uuid)))
        ),
        {"ids": list(tenant_ids)},
    )
    return {row.id: Turn(row.weight, row.deficit, row.turn_at) for row in rows}


async def count_live(session: Session, models: Sequence[str], most: int) -> int:
    """Pictures of the models that run or are queued; of the queued ones ``most`` are counted."""
    live: int = (await session.scalars(_COUNT, {"models": list(models), "most": most})).one()
    return live


async def is_measured(session: Session, model: str) -> bool:
    statement = select(CostProfile.model).where(CostProfile.model == model)
    return await session.scalar(statement) is not None


async def load_profiles(session: Session) -> Sequence[CostProfile]:
    return (await session.scalars(select(CostProfile))).all()


async def keep_profile(
    session: Session, model: str, profile: Mapping[str, Any], max_batch: int
) -> None:
    """The newest word on what the model's pictures cost."""
    told = {"profile": dict(profile), "max_batch": max_batch}
    await session.execute(
        insert(CostProfile)
        .values(model=model, **told)
        .on_conflict_do_update(
            index_elements=["model"], set_={**told, "updated_at": func.clock_timestamp()}
        )
    )
