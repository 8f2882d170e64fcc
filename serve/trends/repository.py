"""Every query on signals and on counts of terms. None of them commits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Row, delete, func, insert, select
from sqlalchemy.dialects.postgresql import insert as upsert

from serve.database import Session
from serve.tables import Job, Signal, TermCount
from serve.trends.signal import SignalKind
from serve.trends.terms import Term

_NOTE = insert(Signal)
BUCKET = timedelta(minutes=10)
_EPOCH = func.to_timestamp(0)


class Noted(NamedTuple):
    """A signal with what its job asked for."""

    tenant_id: UUID
    since: datetime
    kind: SignalKind
    prompt: str


async def note(session: Session, job_id: UUID, kind: SignalKind) -> None:
    """It is counted once the transaction is committed."""
    await session.execute(_NOTE, {"job_id": job_id, "kind": kind.value})


async def take_signals(session: Session, most: int) -> Sequence[Noted]:
    """The oldest ones that nobody else has taken; they are gone with the commit."""
    oldest = select(Signal.id).order_by(Signal.id).limit(most).with_for_update(skip_locked=True)
    taken = (
        delete(Signal)
        .where(Signal.id.in_(oldest))
        .returning(Signal.job_id, Signal.kind, Signal.created_at)
        .cte("taken")
    )
    statement = select(
        Job.tenant_id,
        func.date_bin(BUCKET, taken.c.created_at, _EPOCH),
        taken.c.kind,
        Job.params["prompt"].astext,
    ).join(Job, Job.id == taken.c.job_id)
    rows = await session.execute(statement)
    return [Noted(row[0], row[1], SignalKind(row[2]), row[3] or "") for row in rows]


Counts = Mapping[tuple[UUID, datetime, Term], Mapping[SignalKind, int]]


async def add_counts(session: Session, counts: Counts) -> None:
    """In one order everywhere, so that no two transactions wait for each other."""
    rows = [
        {
            "tenant_id": tenant_id,
            "since": since,
            "kind": term.kind.value,
            "term": term.text,
            **{kind.value: counts[tenant_id, since, term].get(kind, 0) for kind in SignalKind},
        }
        for tenant_id, since, term in sorted(counts)
    ]
    if not rows:
        return
    statement = upsert(TermCount)
    added = {
        kind.value: getattr(TermCount, kind.value) + statement.excluded[kind.value]
        for kind in SignalKind
    }
    await session.execute(
        statement.on_conflict_do_update(
            index_elements=["tenant_id", "since", "kind", "term"], set_=added
        ),
        rows,
    )


async def forget_counts(session: Session, older_than: timedelta) -> None:
    await session.execute(
        delete(TermCount).where(TermCount.since < func.clock_timestamp() - older_than)
    )


async def read_counts(
    session: Session, window: timedelta, tenant_id: UUID | None, least_tenants: int
) -> Sequence[Row[Any]]:
    """The terms that were noted within the window, with what the four windows before it had.

    Of all tenants where ``tenant_id`` is None; then of those terms alone that so many tenants have.
    """
    age = func.clock_timestamp() - TermCount.since
    within = age <= window
    weight = TermCount.asked + 2 * TermCount.downloaded + 3 * TermCount.favoured
    halvings = func.extract("epoch", age) / (window.total_seconds() / 2)
    tenants = func.count(TermCount.tenant_id.distinct()).filter(within)
    statement = (
        select(
            TermCount.kind,
            TermCount.term,
            *(
                func.coalesce(func.sum(column).filter(within), 0).label(name)
                for name, column in (
                    ("asked", TermCount.asked),
                    ("favoured", TermCount.favoured),
                    ("downloaded", TermCount.downloaded),
                    ("weight", weight),
                )
            ),
            (func.coalesce(func.sum(weight).filter(~within), 0) / 4.0).label("before"),
            func.sum(weight * func.power(0.5, halvings)).filter(within).label("decayed"),
        )
        .where(TermCount.since > func.clock_timestamp() - 5 * window)
        .group_by(TermCount.kind, TermCount.term)
        .having(tenants >= least_tenants)
    )
    if tenant_id is not None:
        statement = statement.where(TermCount.tenant_id == tenant_id)
    rows: Sequence[Row[Any]] = (await session.execute(statement)).all()
    return rows
