"""Every query on albums. None of them commits.

Pictures are locked before albums, as where a picture is deleted, so that no two transactions wait
for each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Select, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert

from serve.access.repository import TenantLock, lock_tenant
from serve.database import Session
from serve.tables import Album, AlbumPicture, Image


@dataclass(frozen=True, slots=True)
class FoundAlbum:
    """An album, how many ``pictures`` are in it, and the one that stands for it."""

    id: UUID
    name: str
    created_at: datetime
    pictures: int
    cover_id: UUID | None


async def lock_names(session: Session, tenant_id: UUID) -> None:
    """One at a time makes or renames an album of the tenant; taken before any row is locked."""
    await lock_tenant(session, TenantLock.ALBUM_NAMES, tenant_id)


async def add_album(session: Session, tenant_id: UUID, name: str) -> UUID:
    """The id of the new album."""
    statement = insert(Album).values(tenant_id=tenant_id, name=name).returning(Album.id)
    return (await session.scalars(statement)).one()


async def album_named(session: Session, tenant_id: UUID, name: str) -> UUID | None:
    statement = select(Album.id).where(Album.tenant_id == tenant_id, Album.name == name)
    return await session.scalar(statement)


async def count_albums(session: Session, tenant_id: UUID) -> int:
    statement = select(func.count()).select_from(Album).where(Album.tenant_id == tenant_id)
    return (await session.scalars(statement)).one()


async def load_album(session: Session, tenant_id: UUID, album_id: UUID) -> FoundAlbum | None:
    statement = _albums(tenant_id).where(Album.id == album_id)
    row = (await session.execute(statement)).one_or_none()
    return row and FoundAlbum(**row._mapping)


async def load_albums(
    session: Session, tenant_id: UUID, *, limit: int, after: UUID | None, image_id: UUID | None
) -> Sequence[FoundAlbum]:
    """Newest first; of ``image_id`` those that it is in."""
    statement = _albums(tenant_id).order_by(Album.id.desc()).limit(limit)
    if after is not None:
        statement = statement.where(Album.id < after)
    if image_id is not None:
        entry = select(AlbumPicture.album_id).where(AlbumPicture.image_id == image_id)
        statement = statement.where(Album.id.in_(entry))
    return [FoundAlbum(**row._mapping) for row in await session.execute(statement)]


def _albums(tenant_id: UUID) -> Select[tuple[UUID, str, datetime, int, UUID | None]]:
    of_album = select(AlbumPicture.image_id).where(AlbumPicture.album_id == Album.id)
    chosen = of_album.where(AlbumPicture.image_id == Album.cover_id).scalar_subquery()
    newest = of_album.order_by(AlbumPicture.image_id.desc()).limit(1).scalar_subquery()
    count = select(func.count()).select_from(AlbumPicture)
    return select(
        Album.id,
        Album.name,
        Album.created_at,
        count.where(AlbumPicture.album_id == Album.id).scalar_subquery().label("pictures"),
        func.coalesce(chosen, newest).label("cover_id"),
    ).where(Album.tenant_id == tenant_id)


async def lock_album(session: Session, tenant_id: UUID, album_id: UUID) -> UUID | None:
    """Its id if it is there; it is not changed by others before the transaction ends."""
    statement = select(Album.id).where(Album.tenant_id == tenant_id, Album.id == album_id)
    return await session.scalar(statement.with_for_update(key_share=True))


async def lock_image(session: Session, tenant_id: UUID, image_id: UUID) -> Image | None:
    """The picture, which is not deleted before the transaction ends."""
    statement = select(Image).where(Image.tenant_id == tenant_id, Image.id == image_id)
    return await session.scalar(statement.with_for_update(read=True))


async def change_album(session: Session, album_id: UUID, values: Mapping[str, object]) -> None:
    await session.execute(update(Album).where(Album.id == album_id).values(**values))


async def delete_album(session: Session, tenant_id: UUID, album_id: UUID) -> bool:
    """Whether it was there."""
    statement = delete(Album).where(Album.tenant_id == tenant_id, Album.id == album_id)
    return await session.scalar(statement.returning(Album.id)) is not None


async def count_pictures(session: Session, album_id: UUID) -> int:
    statement = select(func.count()).select_from(AlbumPicture)
    return (await session.scalars(statement.where(AlbumPicture.album_id == album_id))).one()


async def is_in_album(session: Session, album_id: UUID, image_id: UUID) -> bool:
    return await session.get(AlbumPicture, (album_id, image_id)) is not None


async def put_picture(session: Session, album_id: UUID, image_id: UUID) -> None:
    await session.execute(
        insert(AlbumPicture).values(album_id=album_id, image_id=image_id).on_conflict_do_nothing()
    )


async def take_picture(session: Session, album_id: UUID, image_id: UUID) -> None:
    await session.execute(
        delete(AlbumPicture).where(
            AlbumPicture.album_id == album_id, AlbumPicture.image_id == image_id
        )
    )
