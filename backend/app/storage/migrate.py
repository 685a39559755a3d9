"""Bring the database to the present schema with Alembic, safely.

Two traps of SQLite are disarmed by an engine used for migrations alone: with foreign keys on, rebuilding a parent table
empties its children (ON DELETE CASCADE); and the driver commits each DDL statement at once, so that a migration that
fails would leave half its changes. Before a schema changes, the old database is kept beside the new one.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.engine import Connection, make_url

import app
from app.core.errors import Conflict
from app.storage.db import sqlite_module
from app.storage.server_lock import AlreadyServed, ServerLock

ADVISORY_KEY = 0x616666696E616765
"""Names our lock among those of a PostgreSQL server: `affinage` in ASCII."""


def migrations_folder() -> Path:
    """Return the Alembic scripts: inside an installed wheel, or beside the package in a checkout."""
    package = Path(app.__file__).resolve().parent
    installed = package / "migrations"
    return installed if installed.is_dir() else package.parent / "migrations"


def migration_engine(url: str) -> Engine:
    """Return the engine that migrations use: DDL in one transaction, foreign keys off."""
    if make_url(url).get_backend_name() != "sqlite":
        return create_engine(url)
    engine = create_engine(url, module=sqlite_module())

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: object) -> None:
        connection.isolation_level = None
        connection.execute("PRAGMA busy_timeout=10000")
        connection.execute("PRAGMA foreign_keys=OFF")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def alembic_config(url: str) -> Config:
    """Return Alembic's configuration for this database; there is no ini file."""
    config = Config()
    config.set_main_option("script_location", str(migrations_folder()).replace("%", "%%"))
    config.attributes["url"] = url
    return config


def current_revision(url: str) -> str | None:
    """Return the revision that the database is at, None for an empty one."""
    engine = migration_engine(url)
    try:
        with engine.connect() as connection:
            return MigrationContext.configure(connection).get_current_revision()
    finally:
        engine.dispose()


def upgrade(url: str, data_dir: Path, *, alone: bool = False) -> None:
    """Bring the database to the newest schema; one process at a time, a copy of the old one kept.

    Raise Conflict for a database that a newer version has brought to a schema that this one does not know, and where a server
    of an earlier version works with the data folder: it could no longer use its tables. `alone`: the caller holds that lock.
    """
    config = alembic_config(url)
    if make_url(url).get_backend_name() == "sqlite":
        _upgrade_in_turn(url, data_dir, config, alone=alone)
        return
    engine = migration_engine(url)
    try:
        with engine.connect() as connection:  # servers with data folders of their own may share the database
            connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": ADVISORY_KEY})
            _upgrade_in_turn(url, data_dir, config, alone=alone)
    finally:
        engine.dispose()  # closing the connection lets the lock go


def _upgrade_in_turn(url: str, data_dir: Path, config: Config, *, alone: bool) -> None:
    descriptor = os.open(data_dir / ".migrate.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        scripts = ScriptDirectory.from_config(config)
        current, head = current_revision(url), scripts.get_current_head()
        if current == head:
            return
        if current is not None and current not in {script.revision for script in scripts.walk_revisions()}:
            raise Conflict("newer_database", database=make_url(url).render_as_string(), found=current, known=head)
        with nullcontext() if alone else _without_server(data_dir, found=current, known=head):
            if current is not None and make_url(url).get_backend_name() == "sqlite":
                _copy_sqlite(url, data_dir / f"affinage.db.before-{head}")
            command.upgrade(config, "head")
    finally:
        os.close(descriptor)


@contextmanager
def _without_server(data_dir: Path, *, found: str | None, known: str | None) -> Iterator[None]:
    """Keep servers from the data folder meanwhile. Raise Conflict while one works with it."""
    lock = ServerLock(data_dir)
    try:
        lock.acquire("upgrade")
    except AlreadyServed:
        owner = lock.owner() or {}
        raise Conflict(
            "older_server", found=found, known=known, pid=owner.get("pid", "?"), address=owner.get("address", "?")
        ) from None
    with lock:
        yield


def _copy_sqlite(url: str, target: Path) -> None:
    target.unlink(missing_ok=True)
    engine = migration_engine(url)
    connection = engine.raw_connection()  # VACUUM runs outside any transaction
    try:
        connection.cursor().execute("VACUUM INTO ?", (str(target),))
    finally:
        connection.close()
        engine.dispose()
    target.chmod(0o600)
