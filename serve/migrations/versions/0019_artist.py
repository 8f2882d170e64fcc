"""Autonomous jobs: why they draw what they draw, and how their pictures look."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("why", JSONB()))
    op.add_column("images", sa.Column("critique", JSONB()))
    op.create_index(
        "jobs_by_artist",
        "jobs",
        ["tenant_id", sa.text("(params ->> 'prompt')"), "created_at"],
        postgresql_where=sa.text("why IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_index("jobs_by_artist", "jobs")
    op.drop_column("images", "critique")
    op.drop_column("jobs", "why")
