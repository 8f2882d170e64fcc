"""Queries on jobs, images, events and workers. None of them commits.

A transaction locks one job, then images of it; a claim, which starts at images, never waits for a
job. So no two transactions can wait for each other. Statements are built once: to build one takes
longer than to execute it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Executable,
    Float,
    Integer,
    Select,
    String,
    Update,
    Uuid,
    any_,
    bindparam,
    delete,
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
from serve.jobs.claim import Claim
from serve.jobs.price import Price
from serve.jobs.request import SOURCES, JobRequest
from serve.jobs.turns import EDGES_S, QueuedPictures, QueuePosition, Turn
from serve.pictures.stored_file import StoredFile
from serve.tables import (
    LIVE,
    CostProfile,
    EventRow,
    Image,
    Job,
    JobState,
    Tenant,
    Variant,
    Worker,
    numbers_of,
)
from serve.webhooks.repository import OUTBOX

_JOBS = Job.table()
_IMAGES = Image.table()
_HEARD_WITHIN_S = 10.0


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


async def overdue_jobs(session: Session) -> Sequence[UUID]:
    statement = select(Job.id).where(
        Job.deadline_at < func.clock_timestamp(), Job.finished_at.is_(None)
    )
    return (await session.scalars(statement)).all()


async def count_jobs(session: Session) -> dict[JobState, int]:
    rows = await session.execute(select(Job.state, func.count()).group_by(Job.state))
    return dict(rows.all())


def _inserting_job() -> Executable:
    names = ("tenant_id", "model", "params", "n", "priority", "idempotency_key", "request_digest")
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
) -> Job | None:
    """The new job with its images, or None where the tenant used the key before.

    Its event number 1 is taken: append it by `first_event` in the same transaction.
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
        **{f"{name}_sha256": getattr(request, name) for name in SOURCES},
        "deadline_s": request.deadline_s,
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


# Events


def _appending() -> Select[datetime]:
    table = EventRow.table()
    event = (
        insert(table)
        .values({name: bindparam(name) for name in ("job_id", "seq", "type", "data")})
        .returning(table.c.created_at)
        .cte("event")
    )
    return select(event.c.created_at).add_cte(OUTBOX.cte("outbox"))


_APPEND = _appending()


async def append_event(
    session: Session, job: Job, event_type: EventType, data: dict[str, Any]
) -> Event:
    """The job's next event; its row must be locked, so that numbers have no gaps.

    The same statement queues it for the tenant's webhooks.
    """
    job.last_seq += 1
    return await _append(session, job, event_type, data)


async def first_event(session: Session, job: Job, data: dict[str, Any]) -> Event:
    """The event that the job is queued, whose number `insert_job` has taken."""
    return await _append(session, job, EventType.QUEUED, data)


async def _append(session: Session, job: Job, event_type: EventType, data: dict[str, Any]) -> Event:
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
    )


# Images

_JOBS_OF = select(Job).where(Job.id == any_(bindparam("job_ids", type_=ARRAY(Uuid))))
_LOCK_QUEUED = (
    _JOBS_OF.where(Job.state == JobState.QUEUED)
    .with_for_update(skip_locked=True)
    .execution_options(populate_existing=True)
)


async def jobs_of(session: Session, job_ids: set[UUID]) -> Sequence[Job]:
    return (await session.scalars(_JOBS_OF, {"job_ids": list(job_ids)})).all()


async def lock_queued_jobs(session: Session, job_ids: set[UUID]) -> Sequence[Job]:
    """Jobs still queued. One that another holds is skipped: that other starts or ends it."""
    return (await session.scalars(_LOCK_QUEUED, {"job_ids": list(job_ids)})).all()


def _releasing(since: str) -> Update:
    return (
        update(_IMAGES)
        .where(
            _IMAGES.c.id == bindparam("image_id"),
            _IMAGES.c.state == JobState.RUNNING,
            _IMAGES.c.worker_id == bindparam("claimed_by"),
            _IMAGES.c.attempt == bindparam("claimed_as"),
        )
        .values({"state": bindparam("released_as"), "worker_id": None, since: bindparam("now")})
        .returning(_IMAGES.c.id)
    )


_REQUEUE = _releasing("queued_at")
_END = _releasing("finished_at")


async def release_image(session: Session, claim: Claim, state: JobState, now: datetime) -> bool:
    """End the claim, or False where it is no longer the current one."""
    released = await session.scalar(
        _REQUEUE if state is JobState.QUEUED else _END,
        {
            "image_id": claim.image_id,
            "claimed_by": claim.worker_id,
            "claimed_as": claim.attempt,
            "released_as": state,
            "now": now,
        },
    )
    return released is not None


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


_COUNT_LIVE = select(func.count()).where(Image.job_id == bindparam("job_id"), Image.state.in_(LIVE))


async def count_live_images(session: Session, job_id: UUID) -> int:
    return (await session.scalars(_COUNT_LIVE, {"job_id": job_id})).one()


async def images_held(session: Session, worker_id: UUID) -> Sequence[Image]:
    statement = select(Image).where(Image.worker_id == worker_id, Image.state == JobState.RUNNING)
    return (await session.scalars(statement)).all()


_ADD_VARIANT = insert(Variant.table())


async def add_variants(session: Session, image_id: UUID, files: Sequence[StoredFile]) -> None:
    await session.execute(_ADD_VARIANT, [asdict(file) | {"image_id": image_id} for file in files])


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


async def requeue_image(session: Session, image: Image, *, crashed: bool) -> bool:
    """Queue the image again, or False where the claim that was read is no longer the current one.

    ``crashed`` puts a crash on its account: it is drawn alone from now on.
    """
    statement = (
        update(Image)
        .where(
            Image.id == image.id,
            Image.state == JobState.RUNNING,
            Image.worker_id == image.worker_id,
            Image.attempt == image.attempt,
        )
        .values(
            state=JobState.QUEUED,
            worker_id=None,
            crashes=Image.crashes + int(crashed),
            queued_at=func.clock_timestamp(),
        )
        .returning(Image.id)
        .execution_options(synchronize_session=False)
    )
    return await session.scalar(statement) is not None


# Workers


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
    """Places in the next steps of the other workers, by their last heartbeats."""
    statement = select(Worker.slots, Worker.stats).where(
        Worker.model == model,
        Worker.id != worker_id,
        ~Worker.draining,
        Worker.heartbeat_at > _ago(_HEARD_WITHIN_S),
    )
    places = 0
    for slots, stats in await session.execute(statement):
        numbers = numbers_of(stats)
        places += max(0, slots - int(numbers.get("active", 0) + numbers.get("waiting", 0)))
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
    statement = select(Worker).where(Worker.heartbeat_at > _ago(lease_s)).order_by(Worker.id)
    return (await session.scalars(statement)).all()


async def delete_silent_workers(session: Session, lease_s: float) -> Sequence[UUID]:
    """Those unheard for a lease."""
    statement = delete(Worker).where(Worker.heartbeat_at <= _ago(lease_s)).returning(Worker.id)
    return (await session.scalars(statement)).all()


def _ago(number: float) -> Any:
    return func.clock_timestamp() - seconds(number)


# Work: how much there is, whose turn it is, and what it costs

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
QUEUED = text("""
    SELECT tenant_id, priority, width_bucket(start_by, ARRAY(
        SELECT now() + edge * interval '1 second' FROM unnest(CAST(:edges AS float8[])) AS edge
    )) AS slot, count(*), sum(seconds), max(seconds)
    FROM images WHERE state = 'queued' AND model = ANY(:models) GROUP BY 1, 2, 3
""").bindparams(_MODELS)


async def read_work(session: Session, models: Sequence[str], state: JobState) -> tuple[int, float]:
    """Queued or running pictures of the models: how many, and their predicted seconds."""
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
