"""The folded words of the jobs that are there already.

In a transaction of its own, which locks nothing but rows, and no live job's before the end: nobody
waits for it. Prompts in ASCII alone have the words that they had.
"""

from __future__ import annotations

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_FOLD = """
UPDATE jobs SET prompt_words = to_tsvector('simple', folded(params->>'prompt'))
WHERE octet_length(params->>'prompt') <> char_length(params->>'prompt')
AND finished_at IS {} NULL
"""


def upgrade() -> None:
    op.execute(_FOLD.format("NOT"))
    op.execute(_FOLD.format(""))


def downgrade() -> None:
    """The column goes with the revision before."""
