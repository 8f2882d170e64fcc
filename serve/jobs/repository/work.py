"""Queries on what work there is, and what it costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ARRAY, String, bindparam, func, select, text
from sqlalchemy.dialects.postgresql import insert

from serve.database import Session
from serve.models import CostProfile, JobState

# The states stand in the text: a partial index serves a constant only.
_MODELS = bindparam("models", type_=ARRAY(String))
_WORK = text("""
    SELECT 'queued' AS state, count(*), coalesce(sum(seconds), 0) AS seconds
    FROM images WHERE state = 'queued' AND model = ANY(:models)
    UNION ALL
    SELECT 'running', count(*), coalesce(sum(seconds), 0)
    FROM images WHERE state = 'running' AND model = ANY(:models)
""").bindparams(_MODELS)
_COUNT = text("""
    SELECT (SELECT count(*) FROM (
        SELECT FROM images WHERE state = 'queued' AND model = ANY(:models) LIMIT :most
    ) AS queued) + (
        SELECT count(*) FROM images WHERE state = 'running' AND model = ANY(:models)
    )
""").bindparams(_MODELS)


async def read_work(session: Session, models: Sequence[str]) -> dict[JobState, tuple[int, float]]:
    """Queued and running pictures of the models: how many, and their predicted seconds."""
    rows = await session.execute(_WORK, {"models": list(models)})
    return {JobState(state): (count, seconds) for state, count, seconds in rows}


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
