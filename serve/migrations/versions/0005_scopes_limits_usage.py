"""What a key may do and until when, what a tenant may ask for, and what it used."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_LIMITS = (
    "requests_per_minute",
    "gpu_seconds_per_minute",
    "gpu_seconds_burst",
    "gpu_seconds_per_month",
)


def upgrade() -> None:
    # A key that exists could do everything there was, its tenant's webhooks included.
    op.add_column(
        "api_keys",
        sa.Column(
            "scopes",
            postgresql.ARRAY(sa.Text()),
            server_default=sa.text("'{generate,read,admin}'"),
            nullable=False,
        ),
    )
    op.alter_column("api_keys", "scopes", server_default=sa.text("'{generate,read}'"))
    op.create_check_constraint(
        "known_scopes",
        "api_keys",
        "scopes <@ '{generate,read,admin,operator}'::text[] AND cardinality(scopes) > 0",
    )
    op.add_column("api_keys", sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index("api_keys_by_tenant", "api_keys", ["tenant_id", "id"])
    for limit in _LIMITS:
        op.add_column("tenants", sa.Column(limit, sa.Float(), nullable=True))
    op.create_check_constraint(
        "limits_not_negative", "tenants", " AND ".join(f"{limit} >= 0" for limit in _LIMITS)
    )
    op.create_table(
        "usage",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("jobs", sa.BigInteger(), nullable=False),
        sa.Column("pictures", sa.BigInteger(), nullable=False),
        sa.Column("gpu_seconds", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("tenant_id", "day", "model"),
    )


def downgrade() -> None:
    op.drop_table("usage")
    op.drop_constraint("limits_not_negative", "tenants")
    for limit in _LIMITS:
        op.drop_column("tenants", limit)
    op.drop_index("api_keys_by_tenant", table_name="api_keys")
    op.drop_column("api_keys", "expires_at")
    op.drop_column("api_keys", "scopes")
