"""The rows of `serve.tables.ModelChange` and `Lora`, and what is drawn of each model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import cast, delete, func, select, update
from sqlalchemy.dialects.postgresql import JSONB, JSONPATH, insert

from serve.database import Session
from serve.models.changes import Change, ModelState, UploadedLora
from serve.tables import LIVE, Image, Job, JobState, Lora, ModelChange, Worker

LOCK = 0x5F0DE15
"""Of one change at a time, as an advisory lock of a transaction."""


async def lock_changes(session: Session) -> None:
    await session.execute(select(func.pg_advisory_xact_lock(LOCK)))


async def read_changes(session: Session) -> list[Change]:
    """All, in the order in which they were made."""
    rows = await session.scalars(
        select(ModelChange).order_by(ModelChange.changed_at, ModelChange.name)
    )
    return [
        Change(
            row.name,
            ModelState.read(row.state),
            row.pool,
            row.settings,
            row.declared,
            row.error,
            row.changed_at,
        )
        for row in rows
    ]


async def write_change(session: Session, change: Change) -> None:
    """Insert the row, or replace the one of that name; a removed model's LoRAs go with it."""
    values: dict[str, Any] = {
        "state": change.state.value,
        "pool": change.pool,
        "settings": change.settings,
        "declared": change.declared,
        "error": None,
        "changed_at": func.clock_timestamp(),
    }
    statement = insert(ModelChange).values(name=change.name, **values)
    await session.execute(
        statement.on_conflict_do_update(index_elements=[ModelChange.name], set_=values)
    )
    if change.state is ModelState.REMOVED:
        await session.execute(delete(Lora).where(Lora.model == change.name))


async def read_loras(session: Session) -> list[UploadedLora]:
    rows = await session.scalars(select(Lora).order_by(Lora.model, Lora.name))
    return [
        UploadedLora(row.model, row.name, row.sha256, row.size, row.uploaded_at) for row in rows
    ]


async def write_lora(session: Session, lora: UploadedLora) -> None:
    """Insert the row, or replace the one of that model and name; the same file keeps its time."""
    values: dict[str, Any] = {
        "sha256": lora.sha256,
        "size": lora.size,
        "uploaded_at": func.clock_timestamp(),
    }
    statement = insert(Lora).values(model=lora.model, name=lora.name, **values)
    await session.execute(
        statement.on_conflict_do_update(
            index_elements=[Lora.model, Lora.name],
            set_=values,
            where=Lora.sha256 != lora.sha256,
        )
    )


async def delete_lora(session: Session, model: str, name: str) -> None:
    await session.execute(delete(Lora).where(Lora.model == model, Lora.name == name))


async def used_loras(session: Session) -> set[str]:
    """The SHA-256 of each LoRA that a row or a job that has not ended names."""
    in_jobs = func.jsonb_path_query(Job.params, cast("$.lora_files.*", JSONPATH), type_=JSONB)
    rows = await session.scalars(select(Lora.sha256))
    jobs = await session.scalars(select(in_jobs).where(Job.state.in_(LIVE)))
    return {*rows, *jobs}


async def write_error(session: Session, name: str, error: str) -> None:
    """Why a replica could not take up a model that was added."""
    await session.execute(
        update(ModelChange).where(ModelChange.name == name).values(error=error[:1000])
    )


async def live_images(session: Session) -> dict[str, dict[JobState, int]]:
    """How many pictures of each model are queued and running."""
    rows = await session.execute(
        select(Image.model, Image.state, func.count())
        .where(Image.state.in_(LIVE))
        .group_by(Image.model, Image.state)
    )
    counts: dict[str, dict[JobState, int]] = {}
    for model, state, count in rows:
        counts.setdefault(model, {})[state] = count
    return counts


async def models_of_workers(session: Session) -> Sequence[tuple[str, list[str]]]:
    """The pool of each worker that claims, and the models that it has taken up."""
    rows = await session.execute(select(Worker.pool, Worker.models).where(~Worker.draining))
    return [(pool, models) for pool, models in rows]


async def jobs_of_removed_models(session: Session, most: int = 1000) -> Sequence[UUID]:
    """Jobs with queued pictures of models that were removed."""
    removed = select(ModelChange.name).where(ModelChange.state == ModelState.REMOVED.value)
    statement = (
        select(Image.job_id)
        .where(Image.state == JobState.QUEUED, Image.model.in_(removed))
        .distinct()
        .limit(most)
    )
    return (await session.scalars(statement)).all()
