"""Every query on pictures, their files, and sources. None of them commits.

Rows of sources are locked in the order of their keys, so that no two transactions wait for each
other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    String,
    TextClause,
    Uuid,
    any_,
    column,
    delete,
    func,
    literal,
    or_,
    select,
    text,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import joinedload, selectinload

from serve.database import Session
from serve.pictures.schemas import PicturePage
from serve.pictures.stored_file import PictureKey, SourceKey, StoredFile
from serve.tables import LIVE, SHOWN, AlbumPicture, Image, Job, Source, Variant

IS_SHOWN = text(f"images.{SHOWN.replace(' AND ', ' AND images.')}")
_FAVOURITE = text("images.favourite")
_LONGEST_SUBMIT = timedelta(minutes=1)  # between a transaction's now() and the ids made in it
_LONG_AGO = datetime.fromtimestamp(0, UTC)
_FEW_JOBS = 1000
"""So many are looked up one by one. Of words that more jobs have, the newest pictures are near."""
_SOURCE_KEY = tuple_(Source.tenant_id, Source.sha256)


async def load_image(session: Session, tenant_id: UUID, image_id: UUID) -> Image | None:
    """With its job and variants."""
    return await session.scalar(
        select(Image)
        .where(Image.id == image_id, Image.tenant_id == tenant_id)
        .options(selectinload(Image.variants), joinedload(Image.job))
        .execution_options(populate_existing=True)
    )


async def load_images(
    session: Session, tenant_id: UUID, page: PicturePage, model: str | None, after: UUID | None
) -> Sequence[Image]:
    """The tenant's finished pictures that are not deleted, newest first.

    ``page`` has their other conditions, all of which must hold. Its words are for Postgres'
    ``websearch_to_tsquery``, folded as prompts are.
    """
    conditions = [*_conditions(page, model)]
    if words := (page.q or "").strip():
        conditions.append(await _words(session, tenant_id, words))
    statement = (
        select(Image)
        .where(Image.tenant_id == tenant_id, IS_SHOWN, *conditions)
        .order_by(Image.id.desc())
        .limit(page.limit_and_one)
        .options(selectinload(Image.variants), joinedload(Image.job))
    )
    if after is not None:
        statement = statement.where(Image.id < after)
    return (await session.scalars(statement)).all()


async def _words(session: Session, tenant_id: UUID, words: str) -> ColumnElement[bool]:
    """That the prompt has the words.

    Postgres knows too little of how rare they are: it may walk through all pictures by their age.
    So what few jobs have is looked up by its index first.
    """
    query = func.websearch_to_tsquery(text("'simple'"), func.folded(words))
    has_words = Job.prompt_words.op("@@")(query)
    jobs = select(Job.id).where(Job.tenant_id == tenant_id, has_words).limit(_FEW_JOBS + 1)
    found = (await session.scalars(jobs)).all()
    if len(found) <= _FEW_JOBS:
        return Image.job_id == any_(literal(list(found), ARRAY(Uuid)))
    return select(Job.id).where(Job.id == Image.job_id, has_words).exists()


def _conditions(page: PicturePage, model: str | None) -> Iterator[ColumnElement[bool] | TextClause]:
    if model is not None:
        yield Image.model == model
    if page.seed is not None:
        yield Image.seed == page.seed
    if page.created_after is not None:
        yield Image.created_at >= page.created_after
        yield Image.id >= first_id(page.created_after)
    if page.created_before is not None:
        yield Image.created_at < page.created_before
        yield Image.id < first_id(page.created_before + _LONGEST_SUBMIT)
    if page.album is not None:
        yield Image.id.in_(select(AlbumPicture.image_id).where(AlbumPicture.album_id == page.album))
    if page.favourite is not None:
        yield _FAVOURITE if page.favourite else ~Image.favourite


def first_id(moment: datetime) -> UUID:
    """No UUIDv7 of that millisecond, or later, is below it."""
    return UUID(int=int(moment.timestamp() * 1000) << 80)


async def set_favourite(session: Session, image_id: UUID, favourite: bool) -> None:
    await session.execute(
        update(Image)
        .where(Image.id == image_id)
        .values(favourite=favourite)
        .execution_options(synchronize_session=False)
    )


async def add_variant(session: Session, image_id: UUID, file: StoredFile) -> Variant | None:
    """One more file of the picture, or the one of that name that it has; None if it was deleted."""
    kept = await session.scalar(
        select(Image.id)
        .where(Image.id == image_id, Image.deleted_at.is_(None))
        .with_for_update(key_share=True, read=True)
    )
    if kept is None:
        return None
    await session.execute(
        insert(Variant).values(image_id=image_id, **asdict(file)).on_conflict_do_nothing()
    )
    return await session.get_one(Variant, (image_id, file.name))


async def delete_pictures(
    session: Session, *, job_id: UUID, image_id: UUID | None = None
) -> Sequence[str]:
    """Mark the job's ended pictures, or that one, as deleted, take them out of their albums, delete
    their variants, and return the files' keys."""
    condition = Image.job_id == job_id if image_id is None else Image.id == image_id
    marked = await session.scalars(
        update(Image)
        .where(condition, Image.state.not_in(LIVE), Image.deleted_at.is_(None))
        .values(deleted_at=func.clock_timestamp())
        .returning(Image.id)
        .execution_options(synchronize_session=False)
    )
    ids = marked.all()
    await session.execute(
        delete(AlbumPicture)
        .where(AlbumPicture.image_id.in_(ids))
        .execution_options(synchronize_session=False)
    )
    statement = (
        delete(Variant)
        .where(Variant.image_id.in_(ids))
        .returning(Variant.storage_key)
        .execution_options(synchronize_session=False)
    )
    return (await session.scalars(statement)).all()


async def orphans(session: Session, files: Sequence[PictureKey]) -> Sequence[str]:
    """The keys that no variant names and whose job has ended or is gone, as of one moment.

    One statement, because under READ COMMITTED two would see two moments.
    """
    listed = (
        func.unnest(
            literal([str(file) for file in files], ARRAY(String)),
            literal([file.job_id for file in files], ARRAY(Uuid)),
            literal([file.image_id for file in files], ARRAY(Uuid)),
        )
        .table_valued(
            column("key", String), column("job_id", Uuid), column("image_id", Uuid), name="listed"
        )
        .render_derived()
    )
    live = select(Job.id).where(Job.id == listed.c.job_id, Job.state.in_(LIVE)).exists()
    named = (
        select(Variant.name)
        .where(Variant.image_id == listed.c.image_id, Variant.storage_key == listed.c.key)
        .exists()
    )
    return (await session.scalars(select(listed.c.key).where(~live, ~named))).all()


async def touch_sources(session: Session, keys: Sequence[SourceKey]) -> None:
    """Write that a client sent them just now."""
    await session.execute(
        insert(Source)
        .values(_rows(keys))
        .on_conflict_do_update(
            index_elements=["tenant_id", "sha256"], set_={"used_at": func.clock_timestamp()}
        )
    )


async def hold_sources(session: Session, keys: Sequence[SourceKey]) -> bool:
    """Whether all of them are kept; if so, none is deleted before the transaction ends."""
    if not keys:
        return True
    found = await session.scalars(
        select(Source.sha256)
        .where(_SOURCE_KEY.in_([(key.tenant_id, key.sha256) for key in keys]))
        .order_by(Source.tenant_id, Source.sha256)
        .with_for_update(key_share=True, read=True)
    )
    return set(found) == {key.sha256 for key in keys}


async def forget_sources(
    session: Session, keys: Sequence[SourceKey], before: datetime
) -> list[SourceKey]:
    """Delete the rows that no job names and no client has sent since ``before``; return their keys.

    Until the transaction ends, a client that sends or names one of them waits, so that its file can
    be deleted meanwhile. A file without a row gets one first, so that this holds for it as well.
    """
    if not keys:
        return []
    await session.execute(
        insert(Source)
        .values([{**row, "used_at": _LONG_AGO} for row in _rows(keys)])
        .on_conflict_do_nothing()
    )
    listed = _SOURCE_KEY.in_([(key.tenant_id, key.sha256) for key in keys])
    return await _forget(session, listed, before)


async def forget_lost_sources(session: Session, before: datetime) -> int:
    """Delete such rows whose file never came, or is gone; return their number."""
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
        .where(_SOURCE_KEY.in_(keys), ~named)
        .returning(Source.tenant_id, Source.sha256)
        .execution_options(synchronize_session=False)
    )
    return [SourceKey(tenant_id, sha256) for tenant_id, sha256 in gone]


def _rows(keys: Sequence[SourceKey]) -> list[dict[str, object]]:
    """Each once: one statement cannot touch a row twice."""
    return [{"tenant_id": key.tenant_id, "sha256": key.sha256} for key in sorted(set(keys))]
