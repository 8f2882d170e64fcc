"""Alembic's entry: runs the versions against the connection it is handed."""

from __future__ import annotations

from alembic import context

from serve.tables import Base

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=Base.metadata, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
