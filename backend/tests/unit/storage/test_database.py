"""Engine settings, transactions and migrations, on real SQLite files."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text
from sqlalchemy.exc import IntegrityError, OperationalError

from app.core.errors import Conflict
from app.storage.db import Database, sqlite_is_fixed, sqlite_module
from app.storage.migrate import alembic_config, current_revision, migration_engine, upgrade
from app.storage.server_lock import ServerLock
from app.storage.tables import DatasetRow, JobEventRow, JobRow, Table


@pytest.fixture
def url(tmp_path: Path, database_kind: str) -> str:
    made = os.environ["AFFINAGE_DATABASE_URL"] if database_kind == "postgresql" else f"sqlite:///{tmp_path / 'affinage.db'}"
    upgrade(made, tmp_path)
    return made


def job_row(job_id: str) -> JobRow:
    texts = ("name", "model_id", "model_name", "dataset_id", "dataset_name", "device_id", "created_at", "spec")
    return JobRow(job_id=job_id, status="queued", step=0, total_steps=0, last_seq=0, events_offset=0, **dict.fromkeys(texts, "x"))


def fill(database: Database) -> None:
    with database.writing() as session:
        session.add(job_row("a"))
        session.flush()
        session.add_all(JobEventRow(job_id="a", seq=seq, kind="noted", body="{}") for seq in (1, 2, 3))
        session.add(DatasetRow(dataset_id="d", name="d", created_at="x", rows=1, content_hash="x"))


def counts(url: str) -> dict[str, int]:
    engine = migration_engine(url)
    with engine.connect() as connection:
        found = {
            name: connection.execute(text(f"SELECT count(*) FROM {name}")).scalar_one()
            for name in inspect(connection).get_table_names()
        }
    engine.dispose()
    return found


def test_the_sqlite_in_use_is_free_of_the_wal_reset_bug() -> None:
    assert sqlite_is_fixed(tuple(sqlite_module().sqlite_version_info))


@pytest.mark.parametrize(
    "version, fixed",
    [
        ((3, 40, 1), False),
        ((3, 44, 5), False),
        ((3, 44, 6), True),
        ((3, 50, 6), False),
        ((3, 50, 7), True),
        ((3, 51, 2), False),
        ((3, 51, 3), True),
        ((4, 0, 0), True),
    ],
)
def test_old_versions_with_the_bug_are_known(version: tuple[int, int, int], fixed: bool) -> None:
    assert sqlite_is_fixed(version) is fixed


def test_each_connection_has_the_house_settings(url: str) -> None:
    database = Database(url)
    with database.reading() as session:
        found = {name: session.execute(text(f"PRAGMA {name}")).scalar_one() for name in ("journal_mode", "synchronous")}
        found |= {name: session.execute(text(f"PRAGMA {name}")).scalar_one() for name in ("foreign_keys", "busy_timeout")}
    database.close()
    assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 10_000}


def test_a_writer_waits_for_another_and_a_reader_waits_for_none(url: str) -> None:
    database = Database(url)
    order: list[str] = []

    def write_second() -> None:
        with database.writing() as session:
            session.add(DatasetRow(dataset_id="2", name="d", created_at="x", rows=1, content_hash="x"))
            session.flush()
            order.append("second")

    with database.writing() as session:
        session.add(DatasetRow(dataset_id="1", name="d", created_at="x", rows=1, content_hash="x"))
        session.flush()
        other = threading.Thread(target=write_second)
        other.start()
        time.sleep(0.2)
        with database.reading() as reader:
            assert reader.query(DatasetRow).count() == 0
        order.append("first")
    other.join()
    assert order == ["first", "second"]
    with database.reading() as reader:
        assert reader.query(DatasetRow).count() == 2
    database.close()


@pytest.mark.both_databases
def test_an_error_rolls_everything_back(url: str) -> None:
    database = Database(url)
    with pytest.raises(IntegrityError), database.writing() as session:
        session.add(DatasetRow(dataset_id="d", name="d", created_at="x", rows=1, content_hash="x"))
        session.flush()
        session.add(JobEventRow(job_id="no such job", seq=1, kind="noted", body="{}"))
    with database.reading() as session:
        assert session.query(DatasetRow).count() == 0
    database.close()


@pytest.mark.both_databases
def test_the_migrations_lead_to_exactly_the_tables_of_the_code(url: str) -> None:
    engine = migration_engine(url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Table.metadata) == []
    engine.dispose()


@pytest.mark.both_databases
def test_migrations_can_be_taken_back_to_nothing_and_done_again(url: str, tmp_path: Path) -> None:
    command.downgrade(alembic_config(url), "base")
    assert set(counts(url)) == {"alembic_version"}
    upgrade(url, tmp_path)
    assert current_revision(url) == ScriptDirectory.from_config(alembic_config(url)).get_current_head()


WIDEN_JOBS = """
import sqlalchemy as sa
from alembic import op
revision, down_revision, branch_labels, depends_on = "next", {head!r}, None, None
def upgrade():
    with op.batch_alter_table("jobs", recreate="always") as batch:
        batch.add_column(sa.Column("extra", sa.Text()))
    {failure}
def downgrade():
    pass
"""


def add_migration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, failure: str) -> None:
    """Copy the scripts and put one behind the newest that rebuilds the parent table of the events."""
    from shutil import copytree

    from app.storage import migrate

    folder = tmp_path / "migrations"
    copytree(migrate.migrations_folder(), folder)
    head = ScriptDirectory.from_config(alembic_config(url)).get_current_head()
    (folder / "versions" / "next.py").write_text(WIDEN_JOBS.format(head=head, failure=failure))
    monkeypatch.setattr(migrate, "migrations_folder", lambda: folder)


def test_a_migration_that_rebuilds_a_parent_table_keeps_every_child_row_and_a_copy_of_the_old_database(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(url)
    fill(database)
    database.close()
    before = counts(url)
    add_migration(tmp_path, monkeypatch, url, "pass")
    upgrade(url, tmp_path)
    assert current_revision(url) == "next"
    assert counts(url) == before and before["job_events"] == 3
    assert counts(f"sqlite:///{tmp_path / 'affinage.db.before-next'}") == before


def test_a_migration_that_fails_leaves_the_database_as_it_was(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database = Database(url)
    fill(database)
    database.close()
    before, revision = counts(url), current_revision(url)
    add_migration(tmp_path, monkeypatch, url, 'op.execute("SELECT nonsense")')
    with pytest.raises(OperationalError):
        upgrade(url, tmp_path)
    assert (counts(url), current_revision(url)) == (before, revision)
    engine = migration_engine(url)
    with engine.connect() as connection:
        assert "extra" not in {column["name"] for column in inspect(connection).get_columns("jobs")}
    engine.dispose()


FIRST_JOB = (
    "INSERT INTO jobs (job_id, name, status, model_id, model_name, dataset_id, dataset_name, device_id, created_at, spec, step,"
    " total_steps, last_seq, events_offset) VALUES ('a', 'n', 'running', 'm', 'm', 'd', 'd', 'cpu', 'x', '{}', 3, 9, 1, 10)"
)
FIRST_ROWS = [
    FIRST_JOB,
    "INSERT INTO job_events (job_id, seq, kind, body) VALUES ('a', 1, 'noted', '{}')",
    "INSERT INTO job_attempts (job_id, number, micro_batch_size, started_at) VALUES ('a', 1, 4, 'x')",
    "INSERT INTO idempotency_keys (key, request_hash, job_id, created_at) VALUES ('k', 'h', 'a', 'x')",
    "INSERT INTO datasets (dataset_id, name, created_at, rows, content_hash) VALUES ('d', 'd', 'x', 1, 'x')",
]
"""Rows as the first schema had them."""


def fill_first_schema(url: str, revision: str = "0001") -> None:
    command.downgrade(alembic_config(url), "base")
    command.upgrade(alembic_config(url), revision)
    engine = migration_engine(url)
    with engine.begin() as connection:
        for statement in FIRST_ROWS:
            connection.execute(text(statement))
    engine.dispose()


EARLIER = [script.revision for script in ScriptDirectory.from_config(alembic_config("sqlite://")).walk_revisions()][1:]
"""Every schema that there was, but for the present one."""


@pytest.mark.both_databases
@pytest.mark.parametrize("revision", EARLIER)
def test_a_database_of_any_earlier_schema_is_upgraded_with_every_row(url: str, tmp_path: Path, revision: str) -> None:
    fill_first_schema(url, revision)
    before = counts(url)
    upgrade(url, tmp_path)
    assert counts(url) == before and min(before.values()) == 1
    database = Database(url)
    with database.reading() as session:
        row = session.query(JobRow).one()
    database.close()
    assert (row.status, row.step, row.priority, row.folder_id, row.slot) == ("running", 3, 0, None, None)


@pytest.mark.both_databases
def test_a_database_is_not_changed_under_a_server_of_an_earlier_version(url: str, tmp_path: Path) -> None:
    fill_first_schema(url)
    before = counts(url)
    with ServerLock(tmp_path).acquire("http://localhost:8000"):
        with pytest.raises(Conflict, match=rf"pid {os.getpid()}, http://localhost:8000.*from schema 0001 to 0"):
            upgrade(url, tmp_path)
        assert (current_revision(url), counts(url)) == ("0001", before)
        assert not list(tmp_path.glob("*.before-*"))
        upgrade(url, tmp_path, alone=True)  # as the holder of that lock does itself
        upgrade(url, tmp_path)  # nothing is left to change: commands work beside the server
    assert counts(url) == before


KILL_ITSELF = """
import os, signal, sys
from pathlib import Path
from alembic import op
from app.storage import migrate
real = op.batch_alter_table
def die(table, **options):
    if table == "datasets":  # the tables before it are changed, nothing is committed
        os.kill(os.getpid(), signal.SIGKILL)
    return real(table, **options)
op.batch_alter_table = die
migrate.upgrade(sys.argv[1], Path(sys.argv[2]))
"""


@pytest.mark.both_databases
def test_a_database_that_a_newer_version_has_changed_is_refused_in_a_sentence_and_left_alone(url: str, tmp_path: Path) -> None:
    engine = migration_engine(url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0999'"))
    engine.dispose()
    before = counts(url)
    with pytest.raises(Conflict, match=r"newer version of Affinage.*schema 0999.*up to 0"):
        upgrade(url, tmp_path)
    assert (current_revision(url), counts(url)) == ("0999", before)
    assert not list(tmp_path.glob("*.before-*"))


@pytest.mark.both_databases
def test_a_migration_that_is_killed_half_way_is_done_by_the_next_start(url: str, tmp_path: Path) -> None:
    fill_first_schema(url)
    before = counts(url)
    killed = subprocess.run([sys.executable, "-c", KILL_ITSELF, url, str(tmp_path)], check=False, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert (current_revision(url), counts(url)) == ("0001", before)
    upgrade(url, tmp_path)
    assert current_revision(url) == ScriptDirectory.from_config(alembic_config(url)).get_current_head()
    assert counts(url) == before
