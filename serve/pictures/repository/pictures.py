"""Queries on finished pictures: the gallery."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, TextClause, delete, func, select, text, update
from sqlalchemy.orm import joinedload, selectinload

from serve.database import Session
from serve.pictures.picture_filter import PictureFilter
from serve.tables import LIVE, SHOWN, Image, Job, Variant

_SHOWN = text(f"images.{SHOWN.replace(' AND ', ' AND images.')}")
_FAVOURITE = text("images.favourite")
_LONGEST_SUBMIT = timedelta(minutes=1)  # between a transaction's now() and the ids made in it


async def load_image(session: Session, tenant_id: UUID, image_id: UUID) -> Image | None:
    """With its job and variants."""
    statement = (
        select(Image)
        .where(Image.id == image_id, Image.tenant_id == tenant_id)
        .options(selectinload(Image.variants), joinedload(Image.job))
        .execution_options(populate_existing=True)
    )
    return await session.scalar(statement)


async def load_images(
    session: Session, tenant_id: UUID, wanted: PictureFilter, limit: int, after: UUID | None
) -> Sequence[Image]:
    """The tenant's finished pictures that are not deleted, newest first."""
    statement = (
        select(Image)
        .where(Image.tenant_id == tenant_id, _SHOWN, *_conditions(wanted))
        .order_by(Image.id.desc())
        .limit(limit)
        .options(selectinload(Image.variants), joinedload(Image.job))
    )
    if after is not None:
        statement = statement.where(Image.id < after)
    return (await session.scalars(statement)).all()


def _conditions(wanted: PictureFilter) -> list[ColumnElement[bool] | TextClause]:
    found: list[ColumnElement[bool] | TextClause] = []
    if wanted.words is not None:
        words = func.websearch_to_tsquery(text("'simple'"), func.folded(wanted.words))
        job = select(Job.id).where(Job.id == Image.job_id, Job.prompt_words.op("@@")(words))
        found.append(job.exists())
    if wanted.model is not None:
        found.append(Image.model == wanted.model)
    if wanted.seed is not None:
        found.append(Image.seed == wanted.seed)
    if wanted.created_after is not None:
        found.append(Image.created_at >= wanted.created_after)
        found.append(Image.id >= _first_id(wanted.created_after))
    if wanted.created_before is not None:
        found.append(Image.created_at < wanted.created_before)
        found.append(Image.id < _first_id(wanted.created_before + _LONGEST_SUBMIT))
    if wanted.favourite is not None:
        found.append(_FAVOURITE if wanted.favourite else ~Image.favourite)
    return found


def _first_id(moment: datetime) -> UUID:
    """No UUIDv7 of that millisecond, or later, is below it."""
    return UUID(int=int(moment.timestamp() * 1000) << 80)


async def set_favourite(session: Session, image_id: UUID, favourite: bool) -> None:
    await session.execute(
        update(Image)
        .where(Image.id == image_id)
        .values(favourite=favourite)
        .execution_options(synchronize_session=False)
    )


async def delete_pictures(session: Session, condition: ColumnElement[bool]) -> Sequence[str]:
    """Mark the ended pictures as deleted, forget their files, and tell the files' keys."""
    marked = await session.scalars(
        update(Image)
        .where(condition, Image.state.not_in(LIVE), Image.deleted_at.is_(None))
        .values(deleted_at=func.clock_timestamp())
        .returning(Image.id)
        .execution_options(synchronize_session=False)
    )
    statement = (
        delete(Variant)
        .where(Variant.image_id.in_(marked.all()))
        .returning(Variant.storage_key)
        .execution_options(synchronize_session=False)
    )
    return (await session.scalars(statement)).all()


async def delete_picture(session: Session, image_id: UUID) -> Sequence[str]:
    """See `delete_pictures`."""
    return await delete_pictures(session, Image.id == image_id)


async def delete_pictures_of(session: Session, job_id: UUID) -> Sequence[str]:
    """See `delete_pictures`."""
    return await delete_pictures(session, Image.job_id == job_id)
