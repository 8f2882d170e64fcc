"""Albums, and an index of failed jobs for the operator's page."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "albums",
        sa.Column("id", sa.Uuid(), server_default=sa.text("uuidv7()"), primary_key=True),
        sa.Column(
            "tenant_id", sa.Uuid(), sa.ForeignKey("tenants.id", ondelete="CASCADE"), nullable=False
        ),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("cover_id", sa.Uuid()),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.UniqueConstraint("tenant_id", "name"),
    )
    op.create_index("albums_by_tenant", "albums", ["tenant_id", "id"])
    op.create_table(
        "album_pictures",
        sa.Column(
            "album_id", sa.Uuid(), sa.ForeignKey("albums.id", ondelete="CASCADE"), primary_key=True
        ),
        sa.Column(
            "image_id", sa.Uuid(), sa.ForeignKey("images.id", ondelete="CASCADE"), primary_key=True
        ),
    )
    op.create_index("album_pictures_by_image", "album_pictures", ["image_id"])
    op.create_index(
        "jobs_failed", "jobs", ["finished_at"], postgresql_where=sa.text("state = 'failed'")
    )


def downgrade() -> None:
    op.drop_index("jobs_failed", "jobs")
    op.drop_table("album_pictures")
    op.drop_table("albums")
