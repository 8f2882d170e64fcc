"""Each picture's placeholder, and what a job's pictures depend on."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("images", sa.Column("blurhash", sa.String()))
    op.add_column("jobs", sa.Column("recipe", sa.LargeBinary()))
    op.create_index(
        "jobs_by_recipe",
        "jobs",
        ["tenant_id", "recipe", "id"],
        postgresql_where=sa.text("state = 'succeeded'"),
    )


def downgrade() -> None:
    op.drop_index("jobs_by_recipe", "jobs")
    op.drop_column("jobs", "recipe")
    op.drop_column("images", "blurhash")
