"""Queries on jobs, images, events and workers. None of them commits.

A transaction locks one job, then images of it; a claim, which starts at images, never waits for a
job. So no two transactions can wait for each other. Statements are built once: to build one takes
longer than to execute it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Executable,
    Float,
    Integer,
    String,
    Uuid,
    any_,
    bindparam,
    exists,
    func,
    literal_column,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import joinedload, selectinload
from sqlalchemy.orm.attributes import set_committed_value

from serve.clock import seconds
from serve.database import Session
from serve.events.event import Event, EventType
from serve.jobs.price import Price
from serve.jobs.request import SOURCES, JobRequest
from serve.jobs.turns import EDGES_S, QueuedPictures, QueuePosition, Turn
from serve.jobs.why import Why
from serve.observability.tracing import TraceContext
from serve.tables import (
    LIVE,
    CostProfile,
    EventRow,
    Image,
    Job,
    JobState,
    Tenant,
    Worker,
)
from serve.webhooks.repository import OUTBOX

_JOBS = Job.table()
_IMAGES = Image.table()


# Jobs


async def job_by_idempotency_key(session: Session, tenant_id: UUID, key: str) -> Job | None:
    statement = select(Job).where(Job.tenant_id == tenant_id, Job.idempotency_key == key)
    return await session.scalar(statement)


_LOCK_JOB = (
    select(Job, func.clock_timestamp())
    .where(Job.id == bindparam("job_id"))
    .with_for_update(of=Job)
    .execution_options(populate_existing=True)
)


async def lock_job(session: Session, job_id: UUID) -> tuple[Job, datetime]:
    """The job's row, locked, and the database's clock."""
    job, now = (await session.execute(_LOCK_JOB, {"job_id": job_id})).one()
    return job, now


_LOAD_JOB = (
    select(Job)
    .where(Job.id == bindparam("job_id"), Job.tenant_id == bindparam("tenant_id"))
    .options(joinedload(Job.images).joinedload(Image.variants))
    .execution_options(populate_existing=True)
)


async def load_job(session: Session, tenant_id: UUID, job_id: UUID) -> Job | None:
    found = await session.scalars(_LOAD_JOB, {"job_id": job_id, "tenant_id": tenant_id})
    return found.unique().one_or_none()


async def load_jobs(
    session: Session,
    tenant_id: UUID,
    limit: int,
    after: UUID | None,
    state: JobState | None,
    model: str | None,
) -> Sequence[Job]:
    """The tenant's jobs, newest first (ids are UUIDv7: they sort by time)."""
    statement = (
        select(Job)
        .where(Job.tenant_id == tenant_id)
        .order_by(Job.id.desc())
        .limit(limit)
        .options(selectinload(Job.images).joinedload(Image.variants))
    )
    if after is not None:
        statement = statement.where(Job.id < after)
    if state is not None:
        statement = statement.where(Job.state == state)
    if model is not None:
        statement = statement.where(Job.model == model)
    return (await session.scalars(statement)).all()


async def count_jobs(session: Session) -> dict[JobState, int]:
    rows = await session.execute(select(Job.state, func.count()).group_by(Job.state))
    return dict(rows.all())


LIVE_JOBS = (
    select(Job.state, Job.model, func.count())
    .where(Job.finished_at.is_(None))
    .group_by(Job.state, Job.model)
)


async def count_live_jobs(session: Session) -> dict[tuple[JobState, str], int]:
    """Jobs that have not ended, by state and model."""
    return {(state, model): count for state, model, count in await session.execute(LIVE_JOBS)}


def _inserting_job() -> Executable:
    names = (
        "tenant_id",
        "model",
        "params",
        "n",
        "priority",
        "idempotency_key",
        "request_digest",
        "recipe",
        "why",
        "traceparent",
        "tracestate",
    )
    sources = [f"{name}_sha256" for name in SOURCES]
    row: dict[str, Any] = {name: bindparam(name) for name in (*names, *sources)}
    deadline_s = bindparam("deadline_s", type_=Float)
    statement = (
        insert(_JOBS)
        .values({**row, "last_seq": 1, "deadline_at": func.now() + seconds(deadline_s)})
        .on_conflict_do_nothing(index_elements=["tenant_id", "idempotency_key"])
        .returning(*(column for column in _JOBS.c if column.name != Job.prompt_words.key))
    )
    return select(Job).from_statement(statement)


def _inserting_images() -> Executable:
    index = func.generate_series(0, bindparam("n", type_=Integer) - 1).column_valued("index")
    names = ("job_id", "tenant_id", "model", "priority", "width", "height", "seconds")
    begin_within_s = bindparam("begin_within_s", type_=Float)
    row = {
        **{name: bindparam(name, type_=_IMAGES.c[name].type) for name in names},
        "index": index,
        "seed": bindparam("seed", type_=BigInteger) + index,
        "start_by": func.now() + seconds(begin_within_s),
    }
    statement = insert(_IMAGES).from_select(list(row), select(*row.values()))
    return select(Image).from_statement(statement.returning(_IMAGES))


_INSERT_JOB = _inserting_job()
_INSERT_IMAGES = _inserting_images()


async def insert_job(
    session: Session,
    tenant_id: UUID,
    request: JobRequest,
    price: Price,
    idempotency_key: str | None,
    recipe: bytes,
    trace: TraceContext | None = None,
    why: Why | None = None,
) -> Job | None:
    """The new job with its images, or None where the tenant used the key before.

    Its event number 1 is taken: append `EventType.QUEUED` in the same transaction.
    """
    shared = {
        "tenant_id": tenant_id,
        "model": request.model,
        "n": request.n,
        "priority": request.priority,
    }
    columns = {
        "params": request.as_params(),
        "idempotency_key": idempotency_key,
        "request_digest": request.digest() if idempotency_key else None,
        "recipe": recipe,
        "why": why.model_dump(mode="json") if why else None,
        **{f"{name}_sha256": getattr(request, name) for name in SOURCES},
        "deadline_s": request.deadline_s,
        "traceparent": trace.traceparent if trace else None,
        "tracestate": trace.tracestate if trace else None,
    }
    job: Job | None = await session.scalar(_INSERT_JOB, shared | columns)
    if job is None:
        return None
    picture = {
        "job_id": job.id,
        "width": request.width,
        "height": request.height,
        "seed": request.seed,
        "seconds": price.device,
        "begin_within_s": price.begin_within(request.deadline_s),
    }
    images = (await session.scalars(_INSERT_IMAGES, shared | picture)).all()
    # What is new need not be read back.
    set_committed_value(job, "images", sorted(images, key=lambda image: image.index))
    for image in images:
        set_committed_value(image, "variants", [])
    return job


async def job_by_recipe(session: Session, tenant_id: UUID, recipe: bytes) -> UUID | None:
    """The first job of the tenant whose pictures are those of the recipe, and are all there."""
    deleted = exists().where(Image.job_id == Job.id, Image.deleted_at.is_not(None))
    return await session.scalar(
        select(Job.id)
        .where(
            Job.tenant_id == tenant_id,
            Job.recipe == recipe,
            text("jobs.state = 'succeeded'"),  # as the index says it
            ~deleted,
        )
        .order_by(Job.id)
        .limit(1)
    )


# Events


_EVENT = (
    insert(EventRow.table())
    .values({name: bindparam(name) for name in ("job_id", "seq", "type", "data")})
    .returning(EventRow.table().c.created_at)
    .cte("event")
)
_APPEND = select(_EVENT.c.created_at).add_cte(OUTBOX.cte("outbox"))


async def append_event(
    session: Session, job: Job, event_type: EventType, data: dict[str, Any]
) -> Event:
    """The job's next event; its row must be locked, so that numbers have no gaps.

    The same statement queues it for the tenant's webhooks. The event that the job is queued has
    the number 1, which `insert_job` has taken.
    """
    if event_type is not EventType.QUEUED:
        job.last_seq += 1
    event = {"job_id": job.id, "seq": job.last_seq, "type": event_type.value, "data": data}
    with session.no_autoflush:  # the job's row is written once, whatever changes in it
        appended = await session.scalars(_APPEND, {**event, "tenant_id": job.tenant_id})
    return Event(
        tenant_id=job.tenant_id,
        job_id=job.id,
        seq=job.last_seq,
        type=event_type,
        created_at=appended.one(),
        data=data,
        traceparent=job.traceparent if event_type.terminal else None,
    )


# Images


async def end_images(
    session: Session, job_id: UUID, state: JobState, now: datetime
) -> Sequence[tuple[JobState, float]]:
    """Put every image of the job that has not ended into ``state``.

    Returns what each was before, and its predicted seconds.
    """
    ended = await session.execute(
        update(Image)
        .where(Image.job_id == job_id, Image.state.in_(LIVE))
        .values(state=state, worker_id=None, finished_at=now)
        .returning(literal_column("old.state", String), Image.seconds)
        .execution_options(synchronize_session=False)
    )
    return [(JobState.read(before), device_s) for before, device_s in ended]


async def unfinished_seconds(session: Session, job_id: UUID) -> Sequence[float]:
    """Predicted seconds of each image of the job that has no picture."""
    statement = select(Image.seconds).where(
        Image.job_id == job_id, Image.state != JobState.SUCCEEDED
    )
    return (await session.scalars(statement)).all()


# Workers


async def claiming_slots(session: Session, pool: str) -> tuple[int, int]:
    """How many workers of the pool claim pictures, and the places in their steps."""
    statement = select(func.count(), func.coalesce(func.sum(Worker.slots), 0)).where(
        Worker.pool == pool, ~Worker.draining
    )
    workers, slots = (await session.execute(statement)).one()
    return workers, slots


async def live_workers(session: Session, lease_s: float) -> Sequence[Worker]:
    statement = select(Worker).where(Worker.heartbeat_at > ago(lease_s)).order_by(Worker.id)
    return (await session.scalars(statement)).all()


def ago(number: float) -> Any:
    return func.clock_timestamp() - seconds(number)


# Work: how much there is, whose turn it is, and what it costs

# The states stand in the text: a partial index serves a constant only.
_MODELS = bindparam("models", type_=ARRAY(String))
_WORK = {
    state: text(f"""
        SELECT count(*), coalesce(sum(seconds), 0)
        FROM images WHERE state = '{state}' AND model = ANY(:models)
        AND tenant_id NOT IN (SELECT id FROM tenants WHERE weight = 0)
    """).bindparams(_MODELS)  # noqa: S608 - of constants
    for state in LIVE
}
# An index alone answers it (images_to_claim); by the database's clock, as start_by is.
QUEUED = text("""
    SELECT tenant_id, priority, width_bucket(start_by, ARRAY(
        SELECT now() + edge * interval '1 second' FROM unnest(CAST(:edges AS float8[])) AS edge
    )) AS slot, count(*), sum(seconds), max(seconds)
    FROM images WHERE state = 'queued' AND model = ANY(:models) GROUP BY 1, 2, 3
""").bindparams(_MODELS)


async def read_work(session: Session, models: Sequence[str], state: JobState) -> tuple[int, float]:
    """Queued or running pictures of the models: how many, and their predicted seconds.

    Those of background tenants are left out: nobody waits for them, and no replica starts.
    """
    count, seconds = (await session.execute(_WORK[state], {"models": list(models)})).one()
    return count, seconds


async def read_queued(
    session: Session, models: Sequence[str]
) -> dict[QueuePosition, QueuedPictures]:
    """The queued pictures of the models, by their place in their tenant's own order."""
    rows = await session.execute(QUEUED, {"models": list(models), "edges": list(EDGES_S)})
    return {
        QueuePosition(tenant_id, priority, slot): QueuedPictures(count, seconds, dearest_s)
        for tenant_id, priority, slot, count, seconds, dearest_s in rows
    }


@dataclass(frozen=True, slots=True)
class QueuedOfModel:
    """Queued pictures of a model; ``urgency`` is -1, 0 or 1, the sign of their priority."""

    model: str
    urgency: int
    pictures: int
    seconds: float
    oldest_s: float


QUEUED_BY_MODEL = text("""
    SELECT model, sign(priority)::int, count(*), sum(seconds),
        extract(epoch FROM clock_timestamp() - min(queued_at))::float8
    FROM images WHERE state = 'queued' GROUP BY 1, 2
""")


async def count_queued(session: Session) -> list[QueuedOfModel]:
    return [QueuedOfModel(*row) for row in await session.execute(QUEUED_BY_MODEL)]


async def read_turns(session: Session, tenant_ids: Collection[UUID]) -> dict[UUID, Turn]:
    """When it is whose turn, of these tenants."""
    rows = await session.execute(
        select(Tenant.id, Tenant.weight, Tenant.deficit, Tenant.turn_at).where(
            Tenant.id == any_(bindparam("ids", type_=ARRAY(Uuid)))
        ),
        {"ids": list(tenant_ids)},
    )
    return {row.id: Turn(row.weight, row.deficit, row.turn_at) for row in rows}


async def is_measured(session: Session, model: str) -> bool:
    statement = select(CostProfile.model).where(CostProfile.model == model)
    return await session.scalar(statement) is not None


async def load_profiles(session: Session) -> Sequence[CostProfile]:
    return (await session.scalars(select(CostProfile))).all()
