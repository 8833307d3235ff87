"""How Alembic runs: on the connection, and in the transaction, that `schema.migrate` gives it."""

from __future__ import annotations

from alembic import context

from cloud_service.storage.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
