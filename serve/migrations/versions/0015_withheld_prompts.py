"""Tenants whose pictures' files do not tell their prompts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Without a default, so that no row is written.
    op.add_column("tenants", sa.Column("withhold_prompts", sa.Boolean()))


def downgrade() -> None:
    op.drop_column("tenants", "withhold_prompts")
