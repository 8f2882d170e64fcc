"""Albums: pictures that a tenant put together."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, Index, UniqueConstraint, func
from sqlalchemy.orm import Mapped, mapped_column

from serve.tables.base import Base


class Album(Base):
    """A named set of a tenant's pictures."""

    __tablename__ = "albums"
    __table_args__ = (
        UniqueConstraint("tenant_id", "name"),
        Index("albums_by_tenant", "tenant_id", "id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=func.uuidv7())
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"))
    name: Mapped[str]
    cover_id: Mapped[UUID | None]
    """The picture that was chosen; it counts only while it is in the album."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class AlbumPicture(Base):
    """A picture is in an album; in as many as its tenant likes."""

    __tablename__ = "album_pictures"
    __table_args__ = (Index("album_pictures_by_image", "image_id"),)

    album_id: Mapped[UUID] = mapped_column(
        ForeignKey("albums.id", ondelete="CASCADE"), primary_key=True
    )
    image_id: Mapped[UUID] = mapped_column(
        ForeignKey("images.id", ondelete="CASCADE"), primary_key=True
    )
