"""Backup, restore and the rebuilt index, while a trainer writes; the trainer is a scripted process."""

import os
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.contracts.events import PriorityChanged
from app.contracts.status import JobStatus
from app.core.errors import Conflict, Invalid, NotFound
from app.core.settings import Settings
from app.jobs.ingest import ingest
from app.services.backup_service import RESTORING, back_up, restore
from app.services.index_service import rebuild_index
from app.storage.db import Database
from app.storage.job_dir import JobDir, RequestKey, write_atomically
from app.storage.repositories import Jobs
from app.storage.server_lock import AlreadyServed, ServerLock
from app.storage.tables import IdempotencyKeyRow, JobAttemptRow, JobRow
from tests.unit.jobs.conftest import RUNNING, Bench

pytestmark = pytest.mark.both_databases
LEFT_OUT = {"process.json", "trainer.lock", "affinage.db", "server.lock"}


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path / "data")
    yield made
    made.close()


@pytest.fixture
def busy(bench: Bench) -> Bench:
    """One job that has succeeded, one that is being trained, one that waits with a higher priority."""
    bench.queue("done", [RUNNING, {"step": 1}, {"report": 1 << 20}, {"status": "succeeded"}])
    steps = [part for number in range(1, 400) for part in ({"step": number}, {"sleep": 0.02})]
    bench.queue("training", [RUNNING, *steps, {"until_cancel": True}], [RUNNING, {"step": 7}, {"status": "succeeded"}])
    key = RequestKey(key="once", request_hash="0" * 64)
    write_atomically(bench.folder("training").request_file, key.model_dump_json())
    with bench.database.writing() as session:
        session.add(
            IdempotencyKeyRow(key="once", request_hash="0" * 64, job_id="training", created_at="2026-11-22T00:00:00.000Z")
        )
    bench.supervisor().start()
    bench.wait(lambda: bench.row("training").step >= 3)
    bench.queue("waiting", [RUNNING, {"status": "succeeded"}])
    bench.folder("waiting").append(PriorityChanged(priority=3))
    with bench.database.writing() as session:
        row = Jobs(session).lock("waiting")
        assert row is not None
        ingest(session, row, bench.folder("waiting"))
    return bench


def tables(url: str) -> dict[str, list[tuple[Any, ...]]]:
    """Return what lists and charts show of each job, and its attempts and keys."""
    database = Database(url)
    with database.reading() as session:
        jobs = [
            (
                row.job_id,
                row.name,
                row.status,
                row.priority,
                row.created_at,
                row.started_at,
                row.finished_at,
                row.step,
                row.last_seq,
            )
            for row in session.query(JobRow).order_by(JobRow.job_id)
        ]
        attempts = [
            (row.job_id, row.number, row.micro_batch_size, row.outcome)
            for row in session.query(JobAttemptRow).order_by(JobAttemptRow.job_id, JobAttemptRow.number)
        ]
        keys = [(row.key, row.request_hash, row.job_id) for row in session.query(IdempotencyKeyRow)]
    database.close()
    return {"jobs": jobs, "attempts": attempts, "keys": keys}


def elsewhere(tmp_path: Path) -> Settings:
    """A second data folder with a database of its own (SQLite: a backup moves between the two kinds)."""
    return Settings(data_dir=tmp_path / "other", database_url=f"sqlite:///{tmp_path / 'other.db'}", stop_grace_seconds=0.5)


def test_a_backup_taken_while_training_is_restored_elsewhere_and_its_jobs_go_on(busy: Bench, tmp_path: Path) -> None:
    made = back_up(busy.settings, tmp_path / "backup.tar")
    assert busy.row("training").status == "running" and made.jobs == 3
    assert made.file.stat().st_mode & 0o777 == 0o600 and made.size_bytes == made.file.stat().st_size
    with tarfile.open(made.file) as archive:
        assert LEFT_OUT.isdisjoint(Path(name).name for name in archive.getnames())
    assert not list((busy.settings.data_dir / "tmp").iterdir())
    settings = elsewhere(tmp_path)
    rebuilt = restore(settings, made.file)
    assert (rebuilt.jobs, rebuilt.unreadable, rebuilt.set_aside) == (3, [], None)
    assert not (settings.data_dir / RESTORING).exists() and not list((settings.data_dir / "tmp").iterdir())
    found = {row[0]: row for row in tables(settings.resolved_database_url)["jobs"]}
    assert found["done"] == {row[0]: row for row in tables(busy.settings.resolved_database_url)["jobs"]}["done"]
    assert (found["training"][2], found["waiting"][2:4]) == ("running", ("queued", 3))

    other = Bench.__new__(Bench)  # the same bench over the restored folder
    other.__dict__.update(busy.__dict__ | {"settings": settings, "database": Database(settings.resolved_database_url)})
    other._supervisors = []
    other.supervisor().start()
    try:
        assert other.wait_for("training", "succeeded").step == 7 and other.wait_for("waiting", "succeeded")
        assert [event.seq for event in other.events("training")] == list(range(1, other.row("training").last_seq + 1))
    finally:
        other.close()


def test_a_damaged_backup_changes_nothing(busy: Bench, tmp_path: Path) -> None:
    made = back_up(busy.settings, tmp_path / "backup.tar")
    whole = made.file.read_bytes()
    place = whole.index(b'"job_id": "done"')
    damaged = {"bent": whole[:place] + b"X" + whole[place + 1 :], "short": whole[: len(whole) // 2], "text": b"no archive"}
    settings = elsewhere(tmp_path)
    for name, content in damaged.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(Invalid):
            restore(settings, tmp_path / name)
        assert not (settings.data_dir / "jobs").exists() and not list((settings.data_dir / "tmp").iterdir())
    with pytest.raises(NotFound):
        restore(settings, tmp_path / "none")
    with pytest.raises(Conflict):
        back_up(busy.settings, made.file)


@pytest.mark.parametrize("name", ["jobs/../../evil", "/tmp/evil", "evil", "run/evil", "jobs"])
def test_a_backup_cannot_write_where_it_does_not_belong(tmp_path: Path, name: str) -> None:
    with tarfile.open(tmp_path / "evil.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo(name))
    with pytest.raises(Invalid):
        restore(elsewhere(tmp_path), tmp_path / "evil.tar")
    assert not list(tmp_path.rglob("evil"))


def test_a_backup_holds_no_links(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "evil.tar", "w") as archive:
        member = tarfile.TarInfo("jobs/link")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(member)
    with pytest.raises(Invalid):
        restore(elsewhere(tmp_path), tmp_path / "evil.tar")


def test_a_folder_that_holds_something_is_not_restored_into_unless_a_restore_was_interrupted_there(
    busy: Bench, tmp_path: Path
) -> None:
    made = back_up(busy.settings, tmp_path / "backup.tar")
    settings = elsewhere(tmp_path)
    restore(settings, made.file)
    with pytest.raises(Conflict):
        restore(settings, made.file)
    shutil.rmtree(settings.data_dir / "jobs" / "done")  # half of it is in place, the marker still there
    (settings.data_dir / RESTORING).touch()
    assert restore(settings, made.file).jobs == 3


def test_a_folder_in_use_is_neither_restored_into_nor_rebuilt(busy: Bench, tmp_path: Path) -> None:
    made = back_up(busy.settings, tmp_path / "backup.tar")
    settings = elsewhere(tmp_path)
    settings.data_dir.mkdir()
    with ServerLock(settings.data_dir).acquire("http://localhost:8000"):
        with pytest.raises(AlreadyServed):
            restore(settings, made.file)
        with pytest.raises(AlreadyServed):
            rebuild_index(settings)


def test_jobs_look_for_their_models_in_the_restored_folder(bench: Bench, tmp_path: Path) -> None:
    job_dir = bench.queue("a", [RUNNING])
    job = job_dir.read_job()
    inside = job.model.model_copy(update={"path": str(bench.settings.data_dir / "models" / "tiny")})
    write_atomically(job_dir.job_file, job.model_copy(update={"model": inside}).model_dump_json())
    settings = elsewhere(tmp_path)
    restore(settings, back_up(bench.settings, tmp_path / "backup.tar").file)
    moved = JobDir(settings.data_dir / "jobs" / "a").read_job()
    assert moved.model.path == str(settings.data_dir / "models" / "tiny")
    assert moved.model_copy(update={"model": job.model}) == job


def test_the_index_is_made_again_from_the_folders_and_a_living_trainer_is_found_again(busy: Bench, database_kind: str) -> None:
    for supervisor in busy._supervisors:
        supervisor.stop()
    pid = busy.pid("training")
    url, data_dir = busy.settings.resolved_database_url, busy.settings.data_dir
    busy.database.close()
    before = tables(url)
    assert before["keys"] and before["attempts"]
    if database_kind == "sqlite":
        for suffix in ("-wal", "-shm"):
            (data_dir / f"affinage.db{suffix}").unlink(missing_ok=True)
        (data_dir / "affinage.db").write_bytes(b"SQLite format 3\0" + b"\xff" * 5000)
    (data_dir / "jobs" / "stray").mkdir()
    half = [busy.folder(job_id).checkpoints / ".checkpoint-4.tmp" for job_id in ("done", "training")]
    for folder in half:
        folder.mkdir(parents=True)
        (folder / "state.json").write_text("{")
    rebuilt = rebuild_index(busy.settings)
    assert (rebuilt.jobs, rebuilt.unreadable) == (3, ["stray"])
    assert (rebuilt.set_aside is not None) == (database_kind == "sqlite")
    assert [folder.exists() for folder in half] == [False, True]  # a trainer may be at the second
    after = tables(url)
    assert (after["attempts"], after["keys"]) == (before["attempts"], before["keys"])
    assert [row[:7] for row in after["jobs"]] == [row[:7] for row in before["jobs"]]
    (data_dir / "jobs" / "stray").rmdir()

    busy.supervisor().start()
    seen = busy.row("training").last_seq
    busy.wait(lambda: busy.row("training").last_seq > seen + 5)
    assert busy.pid("training") == pid and Path(f"/proc/{pid}").exists()
    busy.folder("training").cancel_file.touch()
    os.killpg(pid, 9)
    busy.wait(lambda: JobStatus(busy.row("training").status) is not JobStatus.RUNNING)
    assert [event.seq for event in busy.events("training")] == list(range(1, busy.row("training").last_seq + 1))
