"""Queries of workers, the reaper and the sweeper. None of them commits."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from itertools import groupby
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BindParameter,
    Integer,
    String,
    Update,
    Uuid,
    any_,
    bindparam,
    delete,
    func,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import joinedload, selectinload

from pipelines.imaging.critique import Critique
from serve.clock import seconds
from serve.database import Session
from serve.jobs.repository import ago
from serve.tables import LIVE, CostProfile, Image, Job, JobState, Tenant, Worker, numbers_of
from serve.worker.queue import QueuedPicture, Shape, TenantQueue

_IMAGES = Image.table()
_MODELS = bindparam("models", type_=ARRAY(String))
_PASSED_BY = bindparam("passed_by", type_=ARRAY(Uuid))
_HEARD_WITHIN_S = 10.0
_HEADROOM = 8  # pictures of a tenant that may be passed over


def _first_of_each(condition: str = "") -> str:
    """The first queued pictures of each tenant in the ring and each model, under the condition.

    Rows that another claim looks at are skipped, so that two claims at once see different pictures.
    """
    return f"""
        SELECT ring.id AS tenant_id, weight, deficit, turn_at,
            (SELECT count(*) FROM ring) AS tenants, picture.*
        FROM ring, unnest(:models) AS served(model), LATERAL (
            SELECT id, seconds, width, height, model, priority, start_by, queued_at, crashes
            FROM images WHERE state = 'queued' AND tenant_id = ring.id AND model = served.model
            AND job_id <> ALL(:passed_by) {condition}
            ORDER BY priority DESC, start_by, id
            LIMIT {_HEADROOM} + :limit / (SELECT count(*) FROM ring)
            FOR NO KEY UPDATE SKIP LOCKED
        ) AS picture
    """  # noqa: S608 - of constants


# The tenants with work come from the index alone, one probe each (a loose index scan).
_QUEUED = text(f"""
    WITH RECURSIVE queued AS (
        (SELECT tenant_id FROM images WHERE state = 'queued' ORDER BY tenant_id LIMIT 1)
        UNION ALL
        SELECT (
            SELECT tenant_id FROM images
            WHERE state = 'queued' AND tenant_id > queued.tenant_id ORDER BY tenant_id LIMIT 1
        ) FROM queued WHERE tenant_id IS NOT NULL
    ),
    ring AS (
        SELECT id, weight, deficit, turn_at FROM tenants
        WHERE id IN (SELECT tenant_id FROM queued) AND EXISTS (
            SELECT FROM images WHERE tenant_id = tenants.id AND state = 'queued'
            AND model = ANY(:models) AND job_id <> ALL(:passed_by)
        )
        ORDER BY weight = 0, turn_at, id LIMIT greatest(:limit, 2)
    )
    {_first_of_each()}
    UNION
    {_first_of_each("AND model = :model AND width = :width AND height = :height")}
    ORDER BY turn_at, tenant_id
""").bindparams(  # noqa: S608 - of constants
    _MODELS,
    _PASSED_BY,
    bindparam("width", type_=Integer),
    bindparam("height", type_=Integer),
    bindparam("model", type_=String),
)


async def queues_of(
    session: Session,
    models: Sequence[str],
    limit: int,
    running: Shape | None,
    passed_by: Sequence[UUID] = (),
) -> list[TenantQueue]:
    """The first of each tenant's queued pictures of ``models``, locked; the next turn's come first.

    As many tenants as ``limit``, since every turn takes a picture, but two at least: alone, the
    first would keep its turn for ever where one place comes free at a time. Background tenants
    are among them only where so many others have no work. Of each tenant enough
    for its part of a room for ``limit`` pictures, those of the ``running`` shape among them. Jobs
    that are ``passed_by`` are as if they were not there.
    """
    shape = running._asdict() if running else {"width": None, "height": None, "model": None}
    parameters = {"models": list(models), "passed_by": list(passed_by), "limit": limit, **shape}
    rows = await session.execute(_QUEUED, parameters)
    queues = []
    for tenant_id, group in groupby(rows, key=lambda row: row.tenant_id):
        tenant_rows = list(group)
        most = _HEADROOM + limit // tenant_rows[0].tenants
        pictures = [
            QueuedPicture(
                id=row.id,
                seconds=row.seconds,
                shape=Shape(row.width, row.height, row.model),
                priority=row.priority,
                start_by=row.start_by,
                queued_at=row.queued_at,
                crashes=row.crashes,
            )
            for row in tenant_rows
        ]
        queues.append(
            TenantQueue(
                tenant_id,
                sorted(pictures, key=lambda picture: picture.rank(running)),
                tenant_rows[0].weight,
                tenant_rows[0].deficit,
                whole=len(pictures) < most,
            )
        )
    return queues


# The reaper's DELETE waits for this lock, and then finds what was claimed under the lease.
_lease = (
    select(Worker.id)
    .where(Worker.id == bindparam("taker", type_=Uuid))
    .with_for_update(read=True, key_share=True)
    .cte("lease")
)
_TAKE = (
    select(Image)
    .from_statement(
        update(_IMAGES)
        .where(
            _IMAGES.c.id == any_(bindparam("image_ids", type_=ARRAY(Uuid))),
            select(_lease.c.id).exists(),
        )
        .values(state=JobState.RUNNING, worker_id=bindparam("taker"), attempt=_IMAGES.c.attempt + 1)
        .returning(_IMAGES)
    )
    .options(selectinload(Image.job))
    .execution_options(populate_existing=True)
)


async def take_images(
    session: Session, worker_id: UUID, image_ids: Sequence[UUID]
) -> Sequence[Image]:
    """The images with their jobs; ``queues_of`` locked them, and now ``worker_id`` has them.

    None where that worker's lease was lost.
    """
    taken = await session.scalars(_TAKE, {"image_ids": list(image_ids), "taker": worker_id})
    return taken.all()


_ANY_QUEUED = text("""
    SELECT EXISTS (
        SELECT FROM images
        WHERE state = 'queued' AND model = ANY(:models) AND job_id <> ALL(:passed_by)
    )
""").bindparams(_MODELS, _PASSED_BY)


async def any_queued(
    session: Session, models: Sequence[str], passed_by: Sequence[UUID] = ()
) -> bool:
    """Whether pictures of the models wait, those that other claims look at among them.

    But for those of jobs that are ``passed_by``.
    """
    parameters = {"models": list(models), "passed_by": list(passed_by)}
    return bool(await session.scalar(_ANY_QUEUED, parameters))


# The rows are locked in the order of their ids, so that two claims never wait for each other.
_CHARGE = text("""
    WITH spent AS (
        SELECT * FROM unnest(
            CAST(:ids AS uuid[]), CAST(:changes AS float8[]),
            CAST(:emptied AS bool[]), CAST(:turns AS int[])
        ) WITH ORDINALITY AS spent(id, change, emptied, turns, place)
    ),
    locked AS MATERIALIZED (
        SELECT id FROM tenants WHERE id IN (SELECT id FROM spent) ORDER BY id FOR NO KEY UPDATE
    )
    UPDATE tenants SET
        deficit = CASE WHEN spent.emptied THEN 0 ELSE greatest(0, deficit + spent.change) END,
        turn_at = CASE WHEN spent.turns > 0
            THEN clock_timestamp() + spent.place * interval '1 microsecond' ELSE turn_at END
    FROM spent JOIN locked USING (id) WHERE tenants.id = spent.id
""")


async def charge(session: Session, ring: Sequence[TenantQueue]) -> None:
    """Keep what the turns changed, and the ``ring``: whose turn it is next comes first."""
    await session.execute(
        _CHARGE,
        {
            "ids": [queue.tenant_id for queue in ring],
            "changes": [queue.change for queue in ring],
            "emptied": [queue.emptied for queue in ring],
            "turns": [queue.turns for queue in ring],
        },
    )


REAPER_LOCK = 0x5F0A70  # any constant that nothing else in this database locks
SWEEPER_LOCK = 0x5F0A72  # 71 is the migrations'


async def try_lock(session: Session, lock: int) -> bool:
    """Take an advisory lock, unless another has it; it ends with the transaction."""
    return bool(await session.scalar(select(func.pg_try_advisory_xact_lock(lock))))


async def database_identity(session: Session) -> str:
    """Tells this database from any other, a restored dump of it included."""
    statement = text(
        "SELECT system_identifier || '/' || current_database() FROM pg_control_system()"
    )
    identity: str = (await session.scalars(statement)).one()
    return identity


async def overdue_jobs(session: Session) -> Sequence[UUID]:
    statement = select(Job.id).where(
        Job.deadline_at < func.clock_timestamp(), Job.finished_at.is_(None)
    )
    return (await session.scalars(statement)).all()


_LOCK_QUEUED = (
    select(Job)
    .where(Job.id == any_(bindparam("job_ids", type_=ARRAY(Uuid))), Job.state == JobState.QUEUED)
    .with_for_update(skip_locked=True)
    .execution_options(populate_existing=True)
)


async def lock_queued_jobs(session: Session, job_ids: set[UUID]) -> Sequence[Job]:
    """Jobs still queued. One that another holds is skipped: that other starts or ends it."""
    if not job_ids:
        return []
    return (await session.scalars(_LOCK_QUEUED, {"job_ids": list(job_ids)})).all()


def _releasing(since: str, **further: BindParameter[Any]) -> Update:
    return (
        update(_IMAGES)
        .where(
            _IMAGES.c.id == bindparam("image_id"),
            _IMAGES.c.state == JobState.RUNNING,
            _IMAGES.c.worker_id == bindparam("claimed_by"),
            _IMAGES.c.attempt == bindparam("claimed_as"),
        )
        .values(
            {
                "state": bindparam("released_as"),
                "worker_id": None,
                "crashes": _IMAGES.c.crashes + bindparam("crashed", type_=Integer),
                since: bindparam("now"),
                **further,
            }
        )
        .returning(_IMAGES.c.id)
    )


_REQUEUE = _releasing("queued_at")
_END = _releasing(
    "finished_at",
    blurhash=bindparam("hash"),
    critique=bindparam("looks", type_=_IMAGES.c.critique.type),
)


async def release_image(
    session: Session,
    image_id: UUID,
    worker_id: UUID | None,
    attempt: int,
    state: JobState,
    now: datetime,
    *,
    crashed: bool = False,
    blurhash: str | None = None,
    critique: Critique | None = None,
) -> bool:
    """End the worker's claim, or False where it is no longer the current one.

    ``crashed`` counts a crash of the picture: it is drawn alone from now on.
    """
    values = {
        "image_id": image_id,
        "claimed_by": worker_id,
        "claimed_as": attempt,
        "released_as": state,
        "crashed": int(crashed),
        "now": now,
    }
    if state is JobState.QUEUED:
        return await session.scalar(_REQUEUE, values) is not None
    looks = None if critique is None else asdict(critique)
    return await session.scalar(_END, {**values, "hash": blurhash, "looks": looks}) is not None


_COUNT_LIVE = select(func.count()).where(Image.job_id == bindparam("job_id"), Image.state.in_(LIVE))


async def count_live_images(session: Session, job_id: UUID) -> int:
    return (await session.scalars(_COUNT_LIVE, {"job_id": job_id})).one()


async def background_tenants(session: Session, tenant_ids: Collection[UUID]) -> frozenset[UUID]:
    """Those of the tenants that draw in the background."""
    statement = select(Tenant.id).where(Tenant.id.in_(tenant_ids), Tenant.weight == 0)
    return frozenset(await session.scalars(statement))


async def images_held(session: Session, worker_id: UUID) -> Sequence[Image]:
    """The worker's images, with their jobs."""
    statement = (
        select(Image)
        .where(Image.worker_id == worker_id, Image.state == JobState.RUNNING)
        .options(joinedload(Image.job))
    )
    return (await session.scalars(statement)).all()


async def waits_in_vain(session: Session, job_id: UUID, wait_s: float) -> bool:
    """Whether an image of the job has been queued for so long, while none of them is drawn."""
    of_job = select(Image.id).where(Image.job_id == job_id)
    overdue = of_job.where(
        Image.state == JobState.QUEUED, Image.queued_at < func.clock_timestamp() - seconds(wait_s)
    )
    drawn = of_job.where(Image.state == JobState.RUNNING)
    return bool(await session.scalar(select(overdue.exists() & ~drawn.exists())))


async def abandoned_images(session: Session) -> Sequence[Image]:
    """Running images whose worker is gone."""
    worker = select(Worker.id).where(Worker.id == Image.worker_id).exists()
    statement = (
        select(Image)
        .where(Image.state == JobState.RUNNING, ~worker)
        .order_by(Image.job_id, Image.index)
    )
    return (await session.scalars(statement)).all()


async def insert_worker(session: Session, pool: str, model: str, device: str, slots: int) -> UUID:
    statement = insert(Worker).values(pool=pool, model=model, device=device, slots=slots)
    return (await session.scalars(statement.returning(Worker.id))).one()


_CLAIMING = select(func.array_agg(Worker.id), func.clock_timestamp()).where(
    Worker.pool == bindparam("pool"), ~Worker.draining
)


async def claiming_workers(session: Session, pool: str) -> tuple[Sequence[UUID], datetime]:
    """The workers of the pool that claim pictures, and the database's clock."""
    ids, now = (await session.execute(_CLAIMING, {"pool": pool})).one()
    return ids or [], now


async def free_places_elsewhere(session: Session, pool: str, worker_id: UUID) -> int:
    """Places in the next steps of the pool's other workers, by their last heartbeats."""
    statement = select(Worker.slots, Worker.stats).where(
        Worker.pool == pool,
        Worker.id != worker_id,
        ~Worker.draining,
        Worker.heartbeat_at > ago(_HEARD_WITHIN_S),
    )
    places = 0
    for slots, stats in await session.execute(statement):
        numbers = numbers_of(stats)
        places += max(0, slots - int(numbers.get("active", 0) + numbers.get("waiting", 0)))
    return places


async def beat(
    session: Session,
    worker_id: UUID,
    stats: dict[str, Any],
    draining: bool,
    models: Sequence[str],
) -> bool:
    """Renew the worker's lease, or False where the reaper took it."""
    statement = (
        update(Worker)
        .where(Worker.id == worker_id)
        .values(
            heartbeat_at=func.clock_timestamp(),
            stats=stats,
            draining=draining,
            models=list(models),
        )
        .returning(Worker.id)
        .execution_options(synchronize_session=False)
    )
    return await session.scalar(statement) is not None


async def delete_worker(session: Session, worker_id: UUID) -> None:
    await session.execute(delete(Worker).where(Worker.id == worker_id))


async def delete_silent_workers(session: Session, lease_s: float) -> Sequence[UUID]:
    """Those unheard for a lease."""
    statement = delete(Worker).where(Worker.heartbeat_at <= ago(lease_s)).returning(Worker.id)
    return (await session.scalars(statement)).all()


async def keep_profile(
    session: Session, model: str, profile: Mapping[str, Any], max_batch: int
) -> None:
    """Keep the newest measurement of what the model's pictures cost."""
    values = {"profile": dict(profile), "max_batch": max_batch}
    await session.execute(
        insert(CostProfile)
        .values(model=model, **values)
        .on_conflict_do_update(
            index_elements=["model"], set_={**values, "updated_at": func.clock_timestamp()}
        )
    )


_COUNT = text("""
    SELECT (SELECT count(*) FROM (
        SELECT FROM images WHERE state = 'queued' AND model = ANY(:models) LIMIT :most
    ) AS queued) + (
        SELECT count(*) FROM images WHERE state = 'running' AND model = ANY(:models)
    )
""").bindparams(_MODELS)


async def count_live(session: Session, models: Sequence[str], most: int) -> int:
    """Pictures of the models that run or are queued; of the queued ones ``most`` are counted."""
    live: int = (await session.scalars(_COUNT, {"models": list(models), "most": most})).one()
    return live
