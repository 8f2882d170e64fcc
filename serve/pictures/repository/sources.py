"""Queries on the pictures that clients sent in.

Rows are locked in the order of their keys, so that no two transactions wait for each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy import ColumnElement, delete, func, or_, select, tuple_
from sqlalchemy.dialects.postgresql import insert

from serve.database import Session
from serve.pictures.source_key import SourceKey
from serve.tables import Job, Source

_LONG_AGO = datetime.fromtimestamp(0, UTC)
_KEY = tuple_(Source.tenant_id, Source.sha256)


async def touch_sources(session: Session, keys: Sequence[SourceKey]) -> None:
    """They were sent just now."""
    await session.execute(
        insert(Source)
        .values(_rows(keys))
        .on_conflict_do_update(
            index_elements=["tenant_id", "sha256"], set_={"used_at": func.clock_timestamp()}
        )
    )


async def hold_sources(session: Session, keys: Sequence[SourceKey]) -> bool:
    """Whether all of them are kept; then they are until the transaction ends."""
    if not keys:
        return True
    found = await session.scalars(
        select(Source.sha256)
        .where(_KEY.in_([(key.tenant_id, key.sha256) for key in keys]))
        .order_by(Source.tenant_id, Source.sha256)
        .with_for_update(key_share=True, read=True)
    )
    return set(found) == {key.sha256 for key in keys}


async def forget_sources(
    session: Session, keys: Sequence[SourceKey], before: datetime
) -> list[SourceKey]:
    """Those that no job names and nobody has sent since ``before``, which are sources no more.

    Until the transaction ends, whoever sends one of them, or names it, waits: its file can be
    deleted meanwhile. So that this holds for a file without a row, too, it gets one first.
    """
    if not keys:
        return []
    await session.execute(
        insert(Source)
        .values([{**row, "used_at": _LONG_AGO} for row in _rows(keys)])
        .on_conflict_do_nothing()
    )
    listed = _KEY.in_([(key.tenant_id, key.sha256) for key in keys])
    return await _forget(session, listed, before)


async def forget_lost_sources(session: Session, before: datetime) -> int:
    """The same for rows whose file never came, or is gone; the number of them."""
    return len(await _forget(session, Source.used_at < before, before))


async def _forget(
    session: Session, listed: ColumnElement[bool], before: datetime
) -> list[SourceKey]:
    named = or_(  # each by its own index
        *(
            select(Job.id)
            .where(Job.tenant_id == Source.tenant_id, column == Source.sha256)
            .exists()
            for column in (Job.image_sha256, Job.mask_sha256, Job.control_image_sha256)
        )
    )
    locked = await session.execute(
        select(Source.tenant_id, Source.sha256)
        .where(listed, Source.used_at < before, ~named)
        .order_by(Source.tenant_id, Source.sha256)
        .with_for_update(skip_locked=True)
    )
    keys = [(tenant_id, sha256) for tenant_id, sha256 in locked]
    # A job may have come to name one while it was being locked: a second statement sees it.
    gone = await session.execute(
        delete(Source)
        .where(_KEY.in_(keys), ~named)
        .returning(Source.tenant_id, Source.sha256)
        .execution_options(synchronize_session=False)
    )
    return [SourceKey(tenant_id, sha256) for tenant_id, sha256 in gone]


def _rows(keys: Sequence[SourceKey]) -> list[dict[str, object]]:
    """Each once: one statement cannot touch a row twice."""
    return [{"tenant_id": key.tenant_id, "sha256": key.sha256} for key in sorted(set(keys))]
