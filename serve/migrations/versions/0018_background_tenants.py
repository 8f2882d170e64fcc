"""A tenant of weight 0 draws in the background."""

from __future__ import annotations

from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_constraint("some_weight", "tenants")
    op.create_check_constraint("weight_not_negative", "tenants", "weight >= 0")


def downgrade() -> None:
    op.execute("UPDATE tenants SET weight = 0.001 WHERE weight = 0")
    op.drop_constraint("weight_not_negative", "tenants")
    op.create_check_constraint("some_weight", "tenants", "weight > 0")
