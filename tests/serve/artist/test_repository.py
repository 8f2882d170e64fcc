"""What the artist asks of long histories takes no reading of whole tables."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import text

from serve.artist import repository
from serve.artist.repository import DAY
from serve.database import Database, Session
from tests.serve.conftest import make_tenant

_HISTORY = """
    INSERT INTO jobs (id, tenant_id, state, model, params, n, why, created_at, finished_at)
    SELECT uuidv7(-age), CAST(:tenant AS uuid), 'succeeded', 'tiny',
        jsonb_build_object('prompt', 'prompt ' || number), 2, '{}', now() - age, now() - age
    FROM generate_series(1, 20000) AS number, LATERAL (SELECT number * interval '1 hour') AS t(age)
"""
_PICTURES = """
    INSERT INTO images (job_id, id, tenant_id, index, state, model, width, height, seconds, attempt,
        created_at)
    SELECT id, uuidv7(created_at - now()), tenant_id, 0, 'succeeded', model, 64, 64, 1, 1,
        created_at
    FROM jobs
"""
_WHOLE = text(
    "SELECT sum(seq_scan)::int FROM pg_stat_xact_user_tables WHERE relname IN ('jobs', 'images')"
)


async def whole_reads(session: Session) -> int:
    return int(await session.scalar(_WHOLE) or 0)


async def test_a_long_history_is_not_read(
    database: Database, database_url: str, tenant_id: UUID
) -> None:
    await make_tenant(database, "artist")
    async with database.transaction() as session:
        await session.execute(text(_HISTORY), {"tenant": tenant_id})
        await session.execute(text(_PICTURES))
    async with database.transaction() as session:
        await session.execute(text("ANALYZE jobs, images"))
    fresh = Database(database_url)  # whose connections have not counted anything yet
    for _ in range(8):  # Postgres makes a plan for any values after a few
        async with fresh.transaction() as session:
            prompts = [f"prompt {number}" for number in (1, 17, 19_000, 99_999)]
            drawn = await repository.drawn_before(session, tenant_id, prompts, timedelta(days=30))
            spent = await repository.spent_seconds(session, tenant_id)
            unended = await repository.any_unended(session, tenant_id)
            recent = await repository.submitted_within(session, tenant_id, timedelta(minutes=90))
            today = datetime.now(UTC)
            shown = await repository.exhibited(session, "first", today - DAY, today, 20, None)
            assert await whole_reads(session) == 0
        assert drawn == {"prompt 1", "prompt 17"}  # the third is two years old
        assert 22 <= spent <= 24
        assert (unended, recent, len(shown)) == (False, True, 20)
    await fresh.close()
