"""Alembic's entry: runs the scripts in `versions/` over the engine that app.storage.migrate made safe for it."""

from alembic import context
from sqlalchemy import text

from app.storage.migrate import migration_engine
from app.storage.tables import Table


def run() -> None:
    """Migrate in one transaction; on SQLite the foreign keys are checked before it commits."""
    engine = migration_engine(context.config.attributes["url"])
    try:
        with engine.connect() as connection:
            context.configure(connection=connection, target_metadata=Table.metadata, render_as_batch=True, compare_type=True)
            with context.begin_transaction():
                context.run_migrations()
                if connection.dialect.name == "sqlite":
                    broken = connection.execute(text("PRAGMA foreign_key_check")).all()
                    if broken:
                        raise RuntimeError(f"A migration broke foreign keys: {broken[:5]}")
    finally:
        engine.dispose()


run()
