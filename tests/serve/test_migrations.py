"""The migrations and the models describe one schema."""

from __future__ import annotations

from serve.migrations.upgrade import pending_changes, upgrade


async def test_migrated_schema_equals_the_models(database_url: str) -> None:
    assert await pending_changes(database_url) == []


async def test_migrating_again_changes_nothing(database_url: str) -> None:
    await upgrade(database_url)
    assert await pending_changes(database_url) == []
