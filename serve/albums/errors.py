"""Expected failures of albums."""

from __future__ import annotations

from typing import ClassVar

from serve.errors import ServiceError

MOST_ALBUMS = 500
"""Of a tenant."""
MOST_PICTURES = 10_000
"""Of an album."""


class AlbumNotFound(ServiceError):
    status: ClassVar[int] = 404
    code: ClassVar[str] = "album_not_found"
    title: ClassVar[str] = "No such album"
    example = "There is no album 019ab2f6-2b0c-7d11-9c40-5f2e7a90b3d8."


class AlbumExists(ServiceError):
    status: ClassVar[int] = 409
    code: ClassVar[str] = "album_exists"
    title: ClassVar[str] = "There is such an album"
    example = (
        "There is an album 'Hearts' already, 019ab2f6-2b0c-7d11-9c40-5f2e7a90b3d8; use that one,"
        " or take another name."
    )


class TooManyAlbums(ServiceError):
    status: ClassVar[int] = 409
    code: ClassVar[str] = "too_many_albums"
    title: ClassVar[str] = "Too many albums"
    example = f"There may be {MOST_ALBUMS} albums; delete one first."


class AlbumFull(ServiceError):
    status: ClassVar[int] = 409
    code: ClassVar[str] = "album_full"
    title: ClassVar[str] = "The album is full"
    example = f"An album holds {MOST_PICTURES} pictures; take one out first, or begin another."
