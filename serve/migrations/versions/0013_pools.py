"""Which pool a worker belongs to."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Workers of before have the one pool that there was.
    op.add_column(
        "workers", sa.Column("pool", sa.String(), server_default="default", nullable=False)
    )


def downgrade() -> None:
    op.drop_column("workers", "pool")
