"""Where telemetry is kept: SQLAlchemy Core over SQLite or PostgreSQL, schema by Alembic."""
