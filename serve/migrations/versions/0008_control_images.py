"""Pictures that a ControlNet follows."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_COLUMN = "control_image_sha256"


def upgrade() -> None:
    op.add_column("jobs", sa.Column(_COLUMN, sa.String(), nullable=True))
    op.create_foreign_key(None, "jobs", "sources", ["tenant_id", _COLUMN], ["tenant_id", "sha256"])
    op.create_index(
        f"jobs_by_{_COLUMN}",
        "jobs",
        ["tenant_id", _COLUMN],
        unique=False,
        postgresql_where=sa.text(f"{_COLUMN} IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_index(f"jobs_by_{_COLUMN}", table_name="jobs")
    op.drop_constraint(f"jobs_tenant_id_{_COLUMN}_fkey", "jobs", type_="foreignkey")
    op.drop_column("jobs", _COLUMN)
