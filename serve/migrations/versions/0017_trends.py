"""What is asked for and liked, by its words."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    now = sa.text("clock_timestamp()")
    op.create_table(
        "signals",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), primary_key=True),
        sa.Column(
            "job_id", sa.Uuid(), sa.ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False
        ),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=now, nullable=False),
        sa.CheckConstraint(
            "kind IN ('asked', 'favoured', 'downloaded')", name="signals_known_kind_check"
        ),
    )
    counts = [
        sa.Column(name, sa.Integer(), server_default="0", nullable=False)
        for name in ("asked", "favoured", "downloaded")
    ]
    op.create_table(
        "term_counts",
        sa.Column(
            "tenant_id",
            sa.Uuid(),
            sa.ForeignKey("tenants.id", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column("since", sa.DateTime(timezone=True), primary_key=True),
        sa.Column("kind", sa.String(), primary_key=True),
        sa.Column("term", sa.String(), primary_key=True),
        *counts,
    )
    op.create_index("term_counts_by_time", "term_counts", ["since"])


def downgrade() -> None:
    op.drop_table("term_counts")
    op.drop_table("signals")
