"""Alembic migrations, run by `cloud_service.storage.schema`."""
