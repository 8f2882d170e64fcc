"""What a picture costs, when it should begin, and whose turn it is."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_QUEUED = sa.text("state = 'queued'")


def _time(name: str, default: str) -> sa.Column[datetime]:
    return sa.Column(
        name, sa.DateTime(timezone=True), server_default=sa.text(default), nullable=False
    )


def upgrade() -> None:
    op.add_column("tenants", sa.Column("weight", sa.Float(), server_default="1", nullable=False))
    op.create_check_constraint("some_weight", "tenants", "weight > 0")
    op.add_column("tenants", sa.Column("deficit", sa.Float(), server_default="0", nullable=False))
    op.add_column("tenants", _time("turn_at", "'epoch'"))
    op.add_column("images", sa.Column("seconds", sa.Float(), server_default="0", nullable=False))
    op.add_column("images", _time("start_by", "now()"))
    op.add_column("images", _time("queued_at", "clock_timestamp()"))
    op.drop_index("images_to_claim", table_name="images")
    last: list[str | sa.ColumnElement[int]] = [
        sa.literal_column("priority DESC"),
        "start_by",
        "id",
    ]
    op.create_index(
        "images_to_claim", "images", ["tenant_id", "model", *last], postgresql_where=_QUEUED
    )
    op.create_index(
        "images_to_claim_by_shape",
        "images",
        ["tenant_id", "model", "width", "height", *last],
        postgresql_where=_QUEUED,
    )
    op.create_table(
        "cost_profiles",
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("profile", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("max_batch", sa.Integer(), nullable=False),
        _time("updated_at", "clock_timestamp()"),
        sa.PrimaryKeyConstraint("model"),
    )


def downgrade() -> None:
    op.drop_table("cost_profiles")
    op.drop_index("images_to_claim_by_shape", table_name="images")
    op.drop_index("images_to_claim", table_name="images")
    op.create_index(
        "images_to_claim",
        "images",
        ["model", sa.literal_column("priority DESC"), "id"],
        postgresql_where=_QUEUED,
    )
    for column in ("queued_at", "start_by", "seconds"):
        op.drop_column("images", column)
    for column in ("turn_at", "deficit", "weight"):
        op.drop_column("tenants", column)
