"""Search, favourites and deletion of pictures; the code of a job's error."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_SHOWN = "state = 'succeeded' AND deleted_at IS NULL"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("error_code", sa.String(), nullable=True))
    op.add_column(
        "jobs",
        sa.Column(
            "prompt_words",
            postgresql.TSVECTOR(),
            sa.Computed("to_tsvector('simple', params->>'prompt')", persisted=True),
            nullable=False,
        ),
    )
    op.create_index("jobs_by_words", "jobs", ["prompt_words"], postgresql_using="gin")
    op.create_index("jobs_by_state", "jobs", ["tenant_id", "state", "id"])
    op.create_index("jobs_by_model", "jobs", ["tenant_id", "model", "id"])
    op.add_column(
        "images",
        sa.Column("favourite", sa.Boolean(), server_default=sa.text("false"), nullable=False),
    )
    op.add_column("images", sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True))
    for name, columns, where in (
        ("images_shown", ["id"], _SHOWN),
        ("images_by_model", ["model", "id"], _SHOWN),
        ("images_by_seed", ["seed", "id"], _SHOWN),
        ("images_favourite", ["id"], f"{_SHOWN} AND favourite"),
    ):
        op.create_index(name, "images", ["tenant_id", *columns], postgresql_where=sa.text(where))


def downgrade() -> None:
    for name in ("images_shown", "images_by_model", "images_by_seed", "images_favourite"):
        op.drop_index(name, table_name="images")
    for column in ("deleted_at", "favourite"):
        op.drop_column("images", column)
    for name in ("jobs_by_words", "jobs_by_state", "jobs_by_model"):
        op.drop_index(name, table_name="jobs")
    for column in ("prompt_words", "error_code"):
        op.drop_column("jobs", column)
