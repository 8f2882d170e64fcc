"""What takes a job in."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Executable, Float, Integer, bindparam, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm.attributes import set_committed_value

from serve.clock import seconds
from serve.database import Session
from serve.jobs.price import Price
from serve.jobs.request import SOURCES, JobRequest
from serve.tables import Image, Job

_JOBS = Job.table()
_IMAGES = Image.table()


def _inserting_job() -> Executable:
    told = ("tenant_id", "model", "params", "n", "priority", "idempotency_key", "request_digest")
    sources = [f"{name}_sha256" for name in SOURCES]
    row: dict[str, Any] = {name: bindparam(name) for name in (*told, *sources)}
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
    told = ("job_id", "tenant_id", "model", "priority", "width", "height", "seconds")
    begin_within_s = bindparam("begin_within_s", type_=Float)
    row = {
        **{name: bindparam(name, type_=_IMAGES.c[name].type) for name in told},
        "index": index,
        "seed": bindparam("seed", type_=BigInteger) + index,
        "start_by": func.now() + seconds(begin_within_s),
    }
    statement = insert(_IMAGES).from_select(list(row), select(*row.values()))
    return select(Image).from_statement(statement.returning(_IMAGES))


# Built once: that takes longer than to ask them.
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

    It counts its `first_event`, which is told within the same transaction.
    """
    both = {
        "tenant_id": tenant_id,
        "model": request.model,
        "n": request.n,
        "priority": request.priority,
    }
    asked = {
        "params": request.as_params(),
        "idempotency_key": idempotency_key,
        "request_digest": request.digest() if idempotency_key else None,
        **{f"{name}_sha256": getattr(request, name) for name in SOURCES},
        "deadline_s": request.deadline_s,
    }
    job: Job | None = await session.scalar(_INSERT_JOB, both | asked)
    if job is None:
        return None
    drawn = {
        "job_id": job.id,
        "width": request.width,
        "height": request.height,
        "seed": request.seed,
        "seconds": price.device,
        "begin_within_s": price.begin_within(request.deadline_s),
    }
    images = (await session.scalars(_INSERT_IMAGES, both | drawn)).all()
    # What is new need not be read back.
    set_committed_value(job, "images", sorted(images, key=lambda image: image.index))
    for image in images:
        set_committed_value(image, "variants", [])
    return job
