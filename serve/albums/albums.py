"""What a tenant may do with its albums."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from uuid import UUID

from serve.albums import repository
from serve.albums.errors import (
    MOST_ALBUMS,
    MOST_PICTURES,
    AlbumExists,
    AlbumFull,
    AlbumNotFound,
    TooManyAlbums,
)
from serve.albums.repository import FoundAlbum
from serve.answer_cache import AnswerCache, Cached
from serve.database import Database, Session
from serve.http.errors import InvalidValue
from serve.pictures.errors import ImageDeleted, ImageNotFound, ImageUnfinished
from serve.tables import JobState


class Albums:
    """The albums of every tenant. Each method is one transaction.

    What names an album raises AlbumNotFound if the tenant has none of that id.
    """

    def __init__(self, database: Database, answers: AnswerCache) -> None:
        self._database = database
        self._answers = answers

    async def create(self, tenant_id: UUID, name: str) -> FoundAlbum:
        """A new album, empty.

        Raises:
            AlbumExists: the tenant has one of that name.
            TooManyAlbums: the tenant has as many as it may.
        """
        async with self._database.transaction() as session:
            await repository.lock_names(session, tenant_id)
            await self._check_name(session, tenant_id, name)
            if await repository.count_albums(session, tenant_id) >= MOST_ALBUMS:
                raise TooManyAlbums(TooManyAlbums.example)
            album_id = await repository.add_album(session, tenant_id, name)
            return await self._load(session, tenant_id, album_id)

    async def list(
        self, tenant_id: UUID, *, limit: int, after: UUID | None, image_id: UUID | None
    ) -> Sequence[FoundAlbum]:
        """Those older than ``after``, newest first; of ``image_id`` those that it is in."""
        async with self._database.transaction() as session:
            return await repository.load_albums(
                session, tenant_id, limit=limit, after=after, image_id=image_id
            )

    async def get(self, tenant_id: UUID, album_id: UUID) -> FoundAlbum:
        async with self._database.transaction() as session:
            return await self._load(session, tenant_id, album_id)

    async def change(
        self, tenant_id: UUID, album_id: UUID, *, name: str | None, cover_id: UUID | None
    ) -> FoundAlbum:
        """Give the album another name or cover; None leaves it as it is.

        Raises:
            AlbumExists: the tenant has another of that name.
            InvalidValue: the cover is not in the album.
        """
        async with self._database.transaction() as session:
            if name is not None:
                await repository.lock_names(session, tenant_id)
            await self._lock(session, tenant_id, album_id)
            if name is not None:
                await self._check_name(session, tenant_id, name, allowed=album_id)
                await repository.change_album(session, album_id, {"name": name})
            if cover_id is not None:
                if not await repository.is_in_album(session, album_id, cover_id):
                    raise InvalidValue(
                        f"cover_id: {cover_id} is not in the album; put it in first.",
                        param="cover_id",
                    )
                await repository.change_album(session, album_id, {"cover_id": cover_id})
            return await self._load(session, tenant_id, album_id)

    async def delete(self, tenant_id: UUID, album_id: UUID) -> None:
        """Delete the album; its pictures stay."""
        async with self._changing(tenant_id), self._database.transaction() as session:
            if not await repository.delete_album(session, tenant_id, album_id):
                raise _not_found(album_id)

    async def put(self, tenant_id: UUID, album_id: UUID, image_id: UUID) -> None:
        """Put the picture into the album; one that is in it stays.

        Raises:
            ImageNotFound, ImageDeleted, ImageUnfinished: there is no such picture to look at.
            AlbumFull: there is no more room.
        """
        async with self._changing(tenant_id), self._database.transaction() as session:
            image = await repository.lock_image(session, tenant_id, image_id)
            await self._lock(session, tenant_id, album_id)
            if image is None:
                raise ImageNotFound(f"There is no image {image_id}.")
            if image.deleted_at is not None:
                raise ImageDeleted(f"Image {image_id} was deleted.")
            if image.state is not JobState.SUCCEEDED:
                raise ImageUnfinished(f"The picture is {image.state}; a finished one is needed.")
            if await repository.is_in_album(session, album_id, image_id):
                return
            if await repository.count_pictures(session, album_id) >= MOST_PICTURES:
                raise AlbumFull(AlbumFull.example)
            await repository.put_picture(session, album_id, image_id)

    async def take(self, tenant_id: UUID, album_id: UUID, image_id: UUID) -> None:
        """Take the picture out of the album; one that is not in it is left alone."""
        async with self._changing(tenant_id), self._database.transaction() as session:
            await self._lock(session, tenant_id, album_id)
            await repository.take_picture(session, album_id, image_id)

    def _changing(self, tenant_id: UUID) -> AbstractAsyncContextManager[None]:
        """For what changes which pictures an album's pages show."""
        return self._answers.changing(Cached.PAGES, tenant_id)

    async def _load(self, session: Session, tenant_id: UUID, album_id: UUID) -> FoundAlbum:
        album = await repository.load_album(session, tenant_id, album_id)
        if album is None:
            raise _not_found(album_id)
        return album

    async def _lock(self, session: Session, tenant_id: UUID, album_id: UUID) -> None:
        if await repository.lock_album(session, tenant_id, album_id) is None:
            raise _not_found(album_id)

    async def _check_name(
        self, session: Session, tenant_id: UUID, name: str, allowed: UUID | None = None
    ) -> None:
        """Raises AlbumExists if an album other than ``allowed`` has the name."""
        album_id = await repository.album_named(session, tenant_id, name)
        if album_id not in (None, allowed):
            raise AlbumExists(
                f"There is an album {name!r} already, {album_id}; use that one, or take another"
                " name.",
                param="name",
            )


def _not_found(album_id: UUID) -> AlbumNotFound:
    return AlbumNotFound(f"There is no album {album_id}.")
