"""How a job's prompts were read: what the client is warned of, and the tokens that were used.

Columns without a default that is computed: no row is rewritten.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("warnings", postgresql.JSONB(), nullable=True))
    op.add_column("jobs", sa.Column("text_tokens", sa.Integer(), nullable=True))


def downgrade() -> None:
    op.drop_column("jobs", "text_tokens")
    op.drop_column("jobs", "warnings")
