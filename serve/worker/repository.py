"""Queries of workers, reapers and sweepers alone: claims, and advisory locks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    Integer,
    String,
    Uuid,
    any_,
    bindparam,
    func,
    select,
    text,
    update,
)

from serve.database import Session
from serve.jobs.fairness import TenantQueue
from serve.tables import Image, JobState, Worker
from serve.worker.queue import QueuedPicture, Shape

_HEADROOM = 8  # pictures of a tenant that may be passed over

# The tenants with work come from the index alone, one probe each (a loose index scan). Rows that
# another claim looks at are skipped, so that two claims at once see different pictures.
_FIRST = """
    SELECT id, seconds, width, height, model, priority, start_by, queued_at, crashes
    FROM images WHERE state = 'queued' AND tenant_id = ring.id AND model = served.model
    AND job_id <> ALL(:passed_by)
"""
_LAST = f"""
    ORDER BY priority DESC, start_by, id LIMIT {_HEADROOM} + :limit / (SELECT count(*) FROM ring)
    FOR NO KEY UPDATE SKIP LOCKED
"""  # noqa: S608 - of a constant
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
        ORDER BY turn_at, id LIMIT greatest(:limit, 2)
    )
    SELECT ring.id AS tenant_id, weight, deficit, turn_at,
        (SELECT count(*) FROM ring) AS tenants, picture.*
    FROM ring, unnest(:models) AS served(model), LATERAL ({_FIRST} {_LAST}) AS picture
    UNION
    SELECT ring.id AS tenant_id, weight, deficit, turn_at,
        (SELECT count(*) FROM ring) AS tenants, picture.*
    FROM ring, unnest(:models) AS served(model), LATERAL ({_FIRST}
        AND model = :model AND width = :width AND height = :height {_LAST}) AS picture
    ORDER BY turn_at, tenant_id
""").bindparams(  # noqa: S608 - of constants
    bindparam("models", type_=ARRAY(String)),
    bindparam("width", type_=Integer),
    bindparam("height", type_=Integer),
    bindparam("model", type_=String),
    bindparam("passed_by", type_=ARRAY(Uuid)),
)


async def queues_of(
    session: Session,
    models: Sequence[str],
    limit: int,
    running: Shape | None,
    passed_by: Sequence[UUID] = (),
) -> list[TenantQueue[QueuedPicture]]:
    """The first of each tenant's queued pictures of ``models``, locked; the next turn's come first.

    As many tenants as ``limit``, since every turn takes a picture, but two at least: alone, the
    first would keep its turn for ever where one place comes free at a time. Of each tenant enough
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


_images = Image.table()
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
        update(_images)
        .where(
            _images.c.id == any_(bindparam("image_ids", type_=ARRAY(Uuid))),
            select(_lease.c.id).exists(),
        )
        .values(state=JobState.RUNNING, worker_id=bindparam("taker"), attempt=_images.c.attempt + 1)
        .returning(_images)
    )
    .execution_options(populate_existing=True)
)


async def take_images(
    session: Session, worker_id: UUID, image_ids: Sequence[UUID]
) -> Sequence[Image]:
    """The images, which ``queues_of`` locked, now running under ``worker_id``.

    None where that worker's lease was lost.
    """
    taken = await session.scalars(_TAKE, {"image_ids": list(image_ids), "taker": worker_id})
    return taken.all()


_ANY_QUEUED = text("""
    SELECT EXISTS (
        SELECT FROM images
        WHERE state = 'queued' AND model = ANY(:models) AND job_id <> ALL(:passed_by)
    )
""").bindparams(bindparam("models", type_=ARRAY(String)), bindparam("passed_by", type_=ARRAY(Uuid)))


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


async def charge(session: Session, ring: Sequence[TenantQueue[QueuedPicture]]) -> None:
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
