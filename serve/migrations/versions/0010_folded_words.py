"""Prompts are found without accents, in either width, and by any part of a script without spaces.

The column of their words becomes one that a trigger fills, for the version before as well: what it
writes is found, and what it looks for mostly, until it is gone. No row is rewritten here.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

# Accents and vowel points, once NFKD has set them apart; and what is not seen.
_MARKS = (
    r"[\u0300-\u036F\u0591-\u05BD\u05BF\u05C1\u05C2\u05C4\u05C5\u05C7\u0610-\u061A\u0640"
    r"\u064B-\u065F\u0670\u00AD\u200B-\u200F\u2060\uFE00-\uFE0F\uFEFF]"
)
# Outside of ASCII, some locales take it for letters.
_PUNCTUATION = (
    r"[\u00A1-\u00A9\u00AC\u00AE-\u00B1\u00B4-\u00B8\u00BF\u2010-\u206F\u3000-\u3004"
    r"\u3008-\u3030]"
)
# Thai, Lao, Burmese, Khmer, signs and emoji, kana, Han, Hangul: whoever looks for a word of them
# looks for a part of what stands between two spaces.
_UNSPACED = (
    r"([\u0E00-\u0EFF\u1000-\u109F\u1780-\u17FF\u2600-\u27BF\u3005-\u3007\u3040-\u30FF"
    r"\u31F0-\u31FF\u3400-\u4DBF\u4E00-\u9FFF\uAC00-\uD7A3\uF900-\uFAFF"
    r"\U0001F000-\U0001FAFF\U00020000-\U0003FFFF])"
)
# Each character between two marks that the parser takes for spaces, but not the reader of queries:
# to it a run of them is one word of several parts, which it looks for side by side.
_FOLDED = rf"""
CREATE FUNCTION folded(words text) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN CASE WHEN octet_length(words) = char_length(words) THEN words ELSE
    regexp_replace(
        regexp_replace(
            replace(replace(translate(
                casefold(
                    normalize(regexp_replace(normalize(words, NFKD), '{_MARKS}', '', 'g'), NFKC)
                    COLLATE pg_unicode_fast
                ),
                'øđðłħŧı“”„‟«»「」『』', 'oddlhti' || repeat('"', 10)
            ), 'æ', 'ae'), 'œ', 'oe'),
            '{_PUNCTUATION}', ' ', 'g'
        ),
        '{_UNSPACED}', '_\1_', 'g'
    )
END
"""
_FILL = """
CREATE FUNCTION fill_prompt_words() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.prompt_words := to_tsvector('simple', folded(coalesce(NEW.params->>'prompt', '')));
    RETURN NEW;
END $$
"""
_TRIGGER = """
CREATE TRIGGER jobs_prompt_words BEFORE INSERT OR UPDATE OF params ON jobs
FOR EACH ROW EXECUTE FUNCTION fill_prompt_words()
"""


def upgrade() -> None:
    op.execute(_FOLDED)
    op.execute(_FILL)
    op.execute("ALTER TABLE jobs ALTER COLUMN prompt_words DROP EXPRESSION")
    op.execute(_TRIGGER)


def downgrade() -> None:
    op.execute("DROP TRIGGER jobs_prompt_words ON jobs")
    op.execute("DROP FUNCTION fill_prompt_words")
    op.execute("DROP FUNCTION folded")
    op.drop_column("jobs", "prompt_words")
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
