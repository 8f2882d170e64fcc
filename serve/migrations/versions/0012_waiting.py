"""What the door counts, in the index by which pictures are claimed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_QUEUED = sa.text("state = 'queued'")
_COLUMNS: list[str | sa.ColumnElement[int]] = [
    "tenant_id",
    "model",
    sa.literal_column("priority DESC"),
    "start_by",
    "id",
]


def upgrade() -> None:
    op.drop_index("images_to_claim", table_name="images")
    op.create_index(
        "images_to_claim",
        "images",
        _COLUMNS,
        postgresql_where=_QUEUED,
        postgresql_include=["seconds"],
    )


def downgrade() -> None:
    op.drop_index("images_to_claim", table_name="images")
    op.create_index("images_to_claim", "images", _COLUMNS, postgresql_where=_QUEUED)
