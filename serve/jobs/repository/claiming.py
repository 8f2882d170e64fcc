"""Queries of a claim: what is queued, whose turn it is, and taking it."""

from __future__ import annotations

from collections.abc import Sequence, Set
from itertools import groupby
from uuid import UUID

from sqlalchemy import ARRAY, Integer, String, bindparam, select, text, update

from serve.database import Session
from serve.jobs.fairness import TenantQueue
from serve.jobs.queue import QueuedPicture, Shape
from serve.models import Image, JobState

_MOST_TENANTS = 64
_HEADROOM = 16  # pictures that may be passed over

# The tenants with work come from the index alone, one probe each (a loose index scan).
_QUEUED = text("""
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
            AND model = ANY(:models)
        )
        ORDER BY turn_at, id LIMIT :most_tenants
    )
    SELECT ring.id AS tenant_id, weight, deficit, picture.*
    FROM ring, unnest(:models) AS served(model), LATERAL (
        (SELECT id, seconds, width, height, model, priority, start_by, queued_at, crashes
        FROM images WHERE state = 'queued' AND tenant_id = ring.id AND model = served.model
        ORDER BY priority DESC, start_by, id LIMIT :most_pictures)
        UNION
        (SELECT id, seconds, width, height, model, priority, start_by, queued_at, crashes
        FROM images WHERE state = 'queued' AND tenant_id = ring.id AND model = served.model
        AND model = :model AND width = :width AND height = :height
        ORDER BY priority DESC, start_by, id LIMIT :most_pictures)
    ) AS picture
    ORDER BY turn_at, ring.id
""").bindparams(
    bindparam("models", type_=ARRAY(String)),
    bindparam("width", type_=Integer),
    bindparam("height", type_=Integer),
    bindparam("model", type_=String),
)


async def queues_of(
    session: Session, models: Sequence[str], limit: int, running: Shape | None
) -> list[TenantQueue[QueuedPicture]]:
    """The first of each tenant's queued pictures of ``models``; whose turn it is comes first.

    Enough of them that a worker with room for ``limit`` finds what it may take, those of the
    ``running`` shape among them.
    """
    most = limit + _HEADROOM
    shape = running._asdict() if running else {"width": None, "height": None, "model": None}
    rows = await session.execute(
        _QUEUED,
        {
            "models": list(models),
            "most_tenants": _MOST_TENANTS,
            "most_pictures": most,
            **shape,
        },
    )
    queues = []
    for tenant_id, group in groupby(rows, key=lambda row: row.tenant_id):
        tenant_rows = list(group)
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


async def take_images(session: Session, worker_id: UUID, image_ids: Set[UUID]) -> Sequence[Image]:
    """Those of the images that are still queued, now running under ``worker_id``."""
    picked = (
        select(Image.id)
        .where(Image.id.in_(image_ids), Image.state == JobState.QUEUED)
        .with_for_update(skip_locked=True)
        .cte("picked")
    )
    statement = (
        update(Image)
        .where(Image.id.in_(select(picked.c.id)))
        .values(state=JobState.RUNNING, worker_id=worker_id, attempt=Image.attempt + 1)
        .returning(Image)
        .execution_options(synchronize_session=False, populate_existing=True)
    )
    return (await session.scalars(statement)).all()


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
