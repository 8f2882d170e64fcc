"""Pictures that clients send in, and the jobs that are drawn from them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "sources",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column(
            "used_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("tenant_id", "sha256"),
    )
    for column in ("image_sha256", "mask_sha256"):
        op.add_column("jobs", sa.Column(column, sa.String(), nullable=True))
        op.create_foreign_key(
            None, "jobs", "sources", ["tenant_id", column], ["tenant_id", "sha256"]
        )
        op.create_index(
            f"jobs_by_{column}",
            "jobs",
            ["tenant_id", column],
            unique=False,
            postgresql_where=sa.text(f"{column} IS NOT NULL"),
        )


def downgrade() -> None:
    for column in ("mask_sha256", "image_sha256"):
        op.drop_index(f"jobs_by_{column}", table_name="jobs")
        op.drop_constraint(f"jobs_tenant_id_{column}_fkey", "jobs", type_="foreignkey")
        op.drop_column("jobs", column)
    op.drop_table("sources")
