"""The trace that a job belongs to."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Without a default, so that no row is written.
    op.add_column("jobs", sa.Column("traceparent", sa.String()))
    op.add_column("jobs", sa.Column("tracestate", sa.String()))


def downgrade() -> None:
    op.drop_column("jobs", "tracestate")
    op.drop_column("jobs", "traceparent")
