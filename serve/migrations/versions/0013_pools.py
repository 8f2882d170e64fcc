"""Which pool a worker belongs to, and what changed about the models since the start."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Workers of before have the one pool that there was.
    op.add_column(
        "workers", sa.Column("pool", sa.String(), server_default="default", nullable=False)
    )
    op.add_column(
        "workers",
        sa.Column(
            "models", postgresql.ARRAY(sa.String()), server_default=sa.text("'{}'"), nullable=False
        ),
    )
    op.create_table(
        "model_changes",
        sa.Column("name", sa.String(), primary_key=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("pool", sa.String()),
        sa.Column("settings", postgresql.JSONB()),
        sa.Column("declared", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("error", sa.String()),
        sa.Column(
            "changed_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.CheckConstraint("state IN ('active', 'paused', 'removed')", name="known_model_state"),
    )
    op.create_table(
        "loras",
        sa.Column("model", sa.String(), primary_key=True),
        sa.Column("name", sa.String(), primary_key=True),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column(
            "uploaded_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
    )


def downgrade() -> None:
    op.drop_table("loras")
    op.drop_table("model_changes")
    op.drop_column("workers", "models")
    op.drop_column("workers", "pool")
