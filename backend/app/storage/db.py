"""Open the database: SQLite (a build without the WAL-reset bug) or PostgreSQL, the same code for both.

SQLite is opened through pysqlite3, whose SQLite is newer than the one of most Python builds. Readers run in plain
transactions, writers in `BEGIN IMMEDIATE`, so that two writers wait for each other instead of failing half way.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import Connection, make_url
from sqlalchemy.orm import Session, sessionmaker

log = logging.getLogger(__name__)

FIXED_SQLITE = (3, 51, 3)
"""First version in which the WAL-reset bug (two processes, rare corruption) is fixed: sqlite.org/wal.html#walresetbug."""
FIXED_BACKPORTS = {(3, 50): 7, (3, 44): 6}
"""Older lines that got the fix, with the patch level from which on."""

BUSY_MILLISECONDS = 10_000
"""How long a writer waits for another before it gives up."""

_WRITES = "affinage_writes"


def sqlite_module() -> ModuleType:
    """Return the DB-API module with the newer SQLite: pysqlite3 where it is installed, else Python's own."""
    try:
        from pysqlite3 import dbapi2
    except ImportError:
        from sqlite3 import dbapi2
    module: ModuleType = dbapi2
    return module


def sqlite_is_fixed(version: tuple[int, ...]) -> bool:
    """Whether this SQLite is free of the WAL-reset bug."""
    backport = FIXED_BACKPORTS.get((version[0], version[1]))
    return version >= FIXED_SQLITE or (backport is not None and version[2] >= backport)


def open_engine(url: str) -> Engine:
    """Return an engine with the house settings. Creates no tables (see migrations)."""
    if make_url(url).get_backend_name() != "sqlite":
        return create_engine(url, pool_pre_ping=True, connect_args={"connect_timeout": 10})
    module = sqlite_module()
    version = tuple(module.sqlite_version_info)
    if not sqlite_is_fixed(version):
        log.warning(
            "SQLite %s has the WAL-reset bug (fixed in 3.51.3): install pysqlite3, or keep to one process at a time.",
            module.sqlite_version,
        )
    engine = create_engine(url, module=module, connect_args={"check_same_thread": False})
    event.listen(engine, "connect", _configure)
    event.listen(engine, "begin", _begin)
    return engine


def _configure(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # the driver must not begin or commit on its own
    for pragma in ("journal_mode=WAL", "synchronous=FULL", f"busy_timeout={BUSY_MILLISECONDS}", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get(_WRITES) else "BEGIN")


class Database:
    """Two kinds of transaction over one engine."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.engine = open_engine(url)
        # SQLite's readers see one state of the database by themselves; PostgreSQL's do when they are asked to.
        snapshot = {} if self.engine.dialect.name == "sqlite" else {"isolation_level": "REPEATABLE READ"}
        self._readers = sessionmaker(self.engine.execution_options(**snapshot), expire_on_commit=False)
        self._writers = sessionmaker(self.engine.execution_options(**{_WRITES: True}), expire_on_commit=False)

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Open a transaction that sees one state of the database and changes nothing."""
        with self._readers() as session:  # closing rolls back, and leaves what was read readable
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """Open a transaction that waits for other writers, commits at the end and rolls back on any error."""
        with self._writers.begin() as session:
            yield session

    def close(self) -> None:
        """Return every connection."""
        self.engine.dispose()
