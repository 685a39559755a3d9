"""The queue and the leases: one claim statement on both databases, and several servers over one PostgreSQL."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import text, update
from sqlalchemy.exc import IntegrityError

from app.contracts.events import PriorityChanged, StatusChanged
from app.contracts.status import JobStatus
from app.jobs.executors.interface import Gone
from app.jobs.executors.local import LocalExecutor, boot_id
from app.jobs.ingest import ingest
from app.storage.db import Database
from app.storage.folder_identity import read_folder_id
from app.storage.job_dir import JobDir
from app.storage.leases import LEASE_SECONDS, Claimant, Leases
from app.storage.repositories import Jobs
from app.storage.tables import JobRow
from tests.unit.jobs.conftest import RUNNING, Bench, scripted_command

pytestmark = pytest.mark.both_databases


def claimant(bench: Bench, name: str, machine: str = "here") -> Claimant:
    return Claimant(owner=name, machine=machine, folder_id=read_folder_id(bench.settings.data_dir))


def claim(bench: Bench, who: Claimant) -> str | None:
    with bench.database.writing() as session:
        return Leases(session, who).claim()


def prioritise(bench: Bench, job_id: str, priority: int) -> None:
    with bench.database.writing() as session:
        row = Jobs(session).lock(job_id)
        assert row is not None
        bench.folder(job_id).append(PriorityChanged(priority=priority))
        ingest(session, row, bench.folder(job_id))


def test_the_highest_priority_is_claimed_first_and_then_the_oldest(bench: Bench) -> None:
    for number, job_id in enumerate(["old", "young", "urgent", "later"]):
        bench.queue(job_id, [], device_id=f"cuda:{number}")
    prioritise(bench, "urgent", 5)
    prioritise(bench, "later", -1)
    server = claimant(bench, "a")
    assert [claim(bench, server) for _ in range(5)] == ["urgent", "old", "young", "later", None]


def test_a_device_is_claimed_once_on_each_machine(bench: Bench) -> None:
    for job_id in ("first", "second", "third"):
        bench.queue(job_id, [])
    assert claim(bench, claimant(bench, "a")) == "first"
    assert claim(bench, claimant(bench, "a")) is None
    assert claim(bench, claimant(bench, "b")) is None  # another server of the same machine
    assert claim(bench, claimant(bench, "c", machine="elsewhere")) == "second"
    assert bench.row("first").slot == "here/cpu" and bench.row("second").slot == "elsewhere/cpu"


def test_a_job_in_another_data_folder_is_left_to_those_who_can_reach_it(bench: Bench) -> None:
    bench.queue("a", [])
    assert claim(bench, Claimant(owner="a", machine="here", folder_id="another")) is None
    assert claim(bench, claimant(bench, "a")) == "a"


def test_many_servers_that_claim_at_once_never_get_the_same_job_or_the_same_device(bench: Bench) -> None:
    for number in range(24):
        bench.queue(f"job{number:02}", [], device_id=f"cuda:{number % 8}")
    databases = [Database(bench.settings.resolved_database_url) for _ in range(4)]
    claimed: list[tuple[str, str]] = []
    together = threading.Barrier(4)

    def serve(number: int) -> None:
        who = claimant(bench, f"server{number}")
        together.wait()
        misses = 0
        while misses < 3:
            try:
                with databases[number].writing() as session:
                    job_id = Leases(session, who).claim()
                    if job_id is not None:  # as the supervisor does: a job that was claimed is no longer queued
                        row = Jobs(session).lock(job_id)
                        assert row is not None
                        bench.folder(job_id).append(StatusChanged(status=JobStatus.STARTING))
                        ingest(session, row, bench.folder(job_id))
            except IntegrityError:
                continue
            misses = misses + 1 if job_id is None else 0
            if job_id is not None:
                claimed.append((job_id, who.owner))

    with ThreadPoolExecutor(4) as servers:
        list(servers.map(serve, range(4)))
    for database in databases:
        database.close()
    assert sorted(job_id for job_id, _ in claimed) == [f"job{number:02}" for number in range(8)]
    with bench.database.reading() as session:
        held = [row for row in Jobs(session).active() if row.slot is not None]
    assert {row.slot for row in held} == {f"here/cuda:{number}" for number in range(8)}
    assert {row.job_id: row.lease_owner for row in held} == dict(claimed)


def test_a_lease_is_taken_over_only_when_it_has_run_out_or_was_let_go(bench: Bench) -> None:
    bench.queue("a", [])
    dead, alive = claimant(bench, "dead"), claimant(bench, "alive")
    assert claim(bench, dead) == "a"
    with bench.database.writing() as session:
        assert Leases(session, alive).take_over() == []
        session.execute(update(JobRow).values(lease_until=JobRow.lease_until - LEASE_SECONDS - 1))
    with bench.database.writing() as session:
        assert Leases(session, Claimant("other folder", "here", "another")).take_over() == []
        assert Leases(session, alive).take_over() == ["a"]
        Leases(session, dead).renew()
    assert bench.row("a").lease_owner == "alive"
    with bench.database.writing() as session:
        Leases(session, alive).let_go()
    with bench.database.writing() as session:
        assert Leases(session, dead).take_over() == ["a"]


def test_a_clock_that_jumps_here_changes_no_lease(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.queue("a", [])
    who = claimant(bench, "a")
    claim(bench, who)
    monkeypatch.setattr(time, "time", lambda: 4e9)
    with bench.database.writing() as session:
        assert Leases(session, claimant(bench, "b")).take_over() == []
        Leases(session, who).renew()
        left = session.execute(text("SELECT lease_until FROM jobs")).scalar_one()
    assert left < 3e9


def test_a_running_job_is_taken_over_from_a_server_that_was_not_heard_of_and_is_not_started_twice(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.jobs.supervisor.RENEW_SECONDS", 0.1)
    bench.queue("a", [RUNNING, {"until_cancel": True}])
    first = bench.supervisor()
    first.start()
    bench.wait_for("a", "running")
    pid = bench.pid("a")
    monkeypatch.setattr(first, "tick", lambda: None)  # a server that hangs: its thread lives and does nothing
    second = bench.supervisor()
    second.start(alone=False)
    time.sleep(0.5)
    assert bench.row("a").lease_owner == first.claimant.owner
    with bench.database.writing() as session:
        session.execute(update(JobRow).values(lease_until=0.0))
    bench.wait(lambda: bench.row("a").lease_owner == second.claimant.owner)
    assert bench.pid("a") == pid and bench.row("a").status == "running"
    bench.folder("a").cancel_file.touch()
    row = bench.wait_for("a", "cancelled")
    bench.wait(lambda: bench.row("a").slot is None)
    assert row.last_seq == len(bench.events("a"))


def test_a_server_that_stops_leaves_its_jobs_to_the_others_at_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.jobs.supervisor.RENEW_SECONDS", 0.1)
    bench.queue("a", [RUNNING, {"until_cancel": True}])
    first, second = bench.supervisor(), bench.supervisor()
    first.start()
    bench.wait_for("a", "running")
    second.start(alone=False)
    first.stop()
    bench.wait(lambda: bench.row("a").lease_owner == second.claimant.owner)
    bench.folder("a").cancel_file.touch()
    bench.wait_for("a", "cancelled")


def test_two_supervisors_share_the_work_and_every_job_runs_once(bench: Bench) -> None:
    for number in range(6):
        bench.queue(f"job{number}", [RUNNING, {"step": 1}, {"status": "succeeded"}], device_id=f"cuda:{number % 3}")
    bench.supervisor().start()
    bench.supervisor().start(alone=False)
    for number in range(6):
        bench.wait_for(f"job{number}", "succeeded")
        assert len(list(bench.folder(f"job{number}").path.glob("attempt-*"))) == 1
        assert [event.seq for event in bench.events(f"job{number}")] == [1, 2, 3, 4, 5]
    bench.wait(lambda: all(bench.row(f"job{number}").slot is None for number in range(6)))


def test_a_trainer_that_lives_cannot_be_joined_by_a_second_one(bench: Bench) -> None:
    job_dir = bench.queue("a", [RUNNING, {"until_cancel": True}])
    executor = LocalExecutor(scripted_command)
    executor.submit(job_dir, None)
    bench.wait((job_dir.path / "attempt-1").exists)
    job_dir.process_file.unlink()  # as seen from another machine: nothing is known but the lock
    other = LocalExecutor(lambda folder, rows: ["no", "such", "command"])
    assert type(other.poll(job_dir)).__name__ == "Running" and other.reattach(job_dir)
    with pytest.raises(BlockingIOError):
        other.submit(job_dir, None)
    job_dir.cancel_file.touch()
    bench.wait(lambda: type(executor.poll(job_dir)).__name__ == "Gone")
    assert not job_dir.is_trained()


def test_a_process_that_took_over_the_number_of_a_dead_trainer_is_not_taken_for_it(bench: Bench) -> None:
    job_dir = bench.queue("a", [RUNNING, {"sleep": 600}], [RUNNING, {"status": "succeeded"}])
    first = bench.supervisor()
    first.start()
    bench.wait_for("a", "running")
    first.stop()
    recorded = job_dir.find_process()
    assert recorded is not None and recorded.boot_id == boot_id()
    os.kill(recorded.pid, signal.SIGKILL)
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    forged = recorded.model_copy(update={"pid": stranger.pid, "started": recorded.started - 100})
    job_dir.process_file.write_text(forged.model_dump_json())
    bench.wait(lambda: not job_dir.is_trained())
    bench.supervisor().start()
    bench.wait_for("a", "succeeded")  # its trainer counts as lost, and it was tried again
    bench.wait(lambda: bench.row("a").slot is None)
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()


def test_what_only_the_database_knows_is_written_back_after_a_loss_of_power(bench: Bench) -> None:
    job_dir = bench.queue("a", [RUNNING, {"step": 1}, {"step": 2}, {"step": 3}, {"until_cancel": True}])
    first = bench.supervisor()
    first.start()
    bench.wait(lambda: bench.row("a").step == 3)
    first.stop()
    os.kill(bench.pid("a"), signal.SIGKILL)
    before = job_dir.events_file.read_bytes()
    lines = before.splitlines(keepends=True)
    job_dir.events_file.write_bytes(b"".join(lines[:-2]) + lines[-2][:20])  # two steps never reached the disk, one is torn
    known = bench.events("a")
    bench.supervisor().start()
    bench.wait((job_dir.path / "attempt-2").exists)  # the loss was seen, and the job is tried again
    bench.wait(lambda: bench.row("a").step == 3 and bench.events("a") == list(job_dir.read_events()))
    assert job_dir.events_file.read_bytes().startswith(before)
    assert bench.events("a")[: len(known)] == known
    bench.wait(lambda: [event.seq for event in bench.events("a")] == list(range(1, bench.row("a").last_seq + 1)))


def test_a_copy_of_a_data_folder_does_not_take_the_trainer_of_the_original_for_its_own(bench: Bench, tmp_path: Path) -> None:
    job_dir = bench.queue("a", [RUNNING, {"until_cancel": True}])
    executor = LocalExecutor(scripted_command)
    executor.submit(job_dir, None)
    bench.wait((job_dir.path / "attempt-1").exists)
    copy = JobDir(Path(shutil.copytree(job_dir.path, tmp_path / "copy" / "a")))
    other = LocalExecutor(scripted_command)
    assert isinstance(other.poll(copy), Gone) and not other.reattach(copy)
    other.stop(copy, hard=True)
    other.dump_stacks(copy)
    assert type(executor.poll(job_dir)).__name__ == "Running"
    job_dir.cancel_file.touch()
    bench.wait(lambda: isinstance(executor.poll(job_dir), Gone))
