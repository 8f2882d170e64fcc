"""Queries on stored files."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ARRAY, String, Uuid, column, func, literal, select

from serve.database import Session
from serve.pictures.picture_key import PictureKey
from serve.tables import LIVE, Job, Variant


async def orphans(session: Session, files: Sequence[PictureKey]) -> Sequence[str]:
    """The keys of those that no variant names and whose job has ended or is gone, as of one moment.

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
