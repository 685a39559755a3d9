"""The supervisor with real processes: every way in which a job can end, and restarts of the supervisor itself."""

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from app.contracts.events import Noted, StatusChanged, StepLogged
from app.contracts.status import JobStatus
from app.jobs import autopsy
from app.storage.planner_dir import PlannerDir
from app.storage.repositories import Jobs
from tests.unit.jobs.conftest import RUNNING, SCRIPTED, Bench, make_job

pytestmark = pytest.mark.both_databases


def test_a_job_runs_from_the_queue_to_success_and_its_events_are_taken_in_once(bench: Bench) -> None:
    bench.queue("a", [RUNNING, {"step": 1}, {"step": 2}, {"status": "succeeded"}])
    bench.supervisor().start()
    row = bench.wait_for("a", "succeeded")
    events = bench.events("a")
    statuses = [event.status for event in events if isinstance(event, StatusChanged)]
    assert statuses == [JobStatus.QUEUED, JobStatus.STARTING, JobStatus.RUNNING, JobStatus.SUCCEEDED]
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert (row.step, row.total_steps, row.loss, row.last_seq) == (2, 100, 1.0, len(events))
    assert row.started_at is not None and row.finished_at is not None
    assert bench.released == ["cpu"]


def test_one_device_runs_one_job_at_a_time_in_the_order_of_creation(bench: Bench) -> None:
    for name in ("first", "second"):
        bench.queue(name, [RUNNING, {"sleep": 0.3}, {"status": "succeeded"}])
    bench.queue("elsewhere", [RUNNING, {"until_cancel": True}], device_id="cuda:0")
    bench.supervisor().start()
    bench.wait_for("elsewhere", "running")
    bench.wait_for("second", "succeeded")
    first, second = bench.events("first"), bench.events("second")
    assert first[-1].at <= second[1].at


def test_no_job_begins_while_a_device_is_measured(bench: Bench) -> None:
    """A measurement beside a training would be wrong for good (services/calibration_service.py)."""
    with PlannerDir(bench.settings.data_dir / "planner").measuring():
        bench.queue("a", [RUNNING, {"status": "succeeded"}])
        bench.supervisor().start()
        time.sleep(1.0)
        assert bench.row("a").status == "queued"
    bench.wait_for("a", "succeeded")


def test_a_killed_trainer_is_started_again(bench: Bench) -> None:
    bench.queue("a", [RUNNING, {"step": 1}, {"sleep": 60}], [RUNNING, {"step": 2}, {"status": "succeeded"}])
    bench.supervisor().start()
    bench.wait(lambda: bench.row("a").step == 1)
    os.kill(bench.pid("a"), signal.SIGKILL)
    bench.wait_for("a", "succeeded")
    (note,) = [event for event in bench.events("a") if isinstance(event, Noted)]
    assert (note.key, note.params) == ("worker_killed.retry", {"retry": 1, "limit": 3})


def test_a_trainer_whose_disk_is_full_is_paused(bench: Bench) -> None:
    bench.queue("a", [RUNNING, {"step": 1}, {"exit": 6}])
    bench.supervisor().start()
    bench.wait_for("a", "paused")
    assert [event.key for event in bench.events("a") if isinstance(event, Noted)] == ["disk_full.paused"]


def test_a_trainer_that_is_killed_while_it_pauses_is_paused(bench: Bench) -> None:
    job_dir = bench.queue("a", [RUNNING, {"sleep": 60}])
    bench.supervisor().start()
    bench.wait_for("a", "running")
    job_dir.append(StatusChanged(status=JobStatus.PAUSING))
    bench.wait_for("a", "pausing")
    os.kill(bench.pid("a"), signal.SIGKILL)
    bench.wait_for("a", "paused")


@pytest.fixture
def no_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autopsy, "MAX_RETRIES", 0)


@pytest.mark.usefixtures("no_retries")
def test_a_trainer_that_is_killed_too_often_fails_with_worker_killed_and_the_end_of_its_log(bench: Bench) -> None:
    bench.queue("a", [RUNNING, {"step": 1}, {"print": "the last words"}, {"sleep": 60}])
    bench.supervisor().start()
    bench.wait(lambda: bench.row("a").step == 1)
    bench.wait(lambda: "the last words" in bench.folder("a").log_file.read_text())
    os.kill(bench.pid("a"), signal.SIGKILL)
    row = bench.wait_for("a", "failed")
    assert (row.error_code, row.error_key) == ("worker_killed", "worker_killed")
    assert row.error_evidence == "the last words"


def test_a_trainer_that_ends_without_a_word_fails_with_its_exit_code(bench: Bench) -> None:
    bench.queue("a", [{"print": "ImportError: no such module"}, {"exit": 1}])
    bench.supervisor().start()
    row = bench.wait_for("a", "failed")
    assert (row.error_key, row.error_params) == ("worker_killed.exit", '{"exit_code": 1}')
    assert row.error_evidence == "ImportError: no such module"


def test_killed_by_the_kernel_for_memory_it_starts_again_with_half_the_rows_down_to_one(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    readings = iter(range(10_000))  # the kernel's counter rises between any two readings
    monkeypatch.setattr(autopsy, "oom_kills", lambda: next(readings))
    monkeypatch.setattr("app.jobs.supervisor.oom_kills", lambda: next(readings))
    bench.queue("a", [RUNNING, {"kill": signal.SIGKILL}], micro_batch_size=4)
    bench.supervisor().start()
    row = bench.wait_for("a", "failed")
    assert row.error_code == "oom_host"
    tried = [event.params["micro_batch_size"] for event in bench.events("a") if isinstance(event, Noted)]
    assert tried == [2, 1]
    assert bench.folder("a").log_file.read_text().split("\n") == ["micro-batch 2", "micro-batch 1", ""]
    with bench.database.reading() as session:
        attempt = Jobs(session).find_attempt("a")
    assert attempt is not None and (attempt.number, attempt.micro_batch_size, attempt.outcome) == (3, 1, "oom_host")


def test_an_obedient_trainer_is_cancelled_at_once(bench: Bench) -> None:
    job_dir = bench.queue("a", [RUNNING, {"until_cancel": True}])
    bench.supervisor().start()
    bench.wait_for("a", "running")
    job_dir.cancel_file.touch()
    job_dir.append(StatusChanged(status=JobStatus.CANCELLING))
    bench.wait_for("a", "cancelled")


def test_a_deaf_trainer_is_killed_after_the_grace_time_and_its_job_is_cancelled(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.jobs.supervisor.KILL_AFTER_TERM_SECONDS", 0.5)
    job_dir = bench.queue("a", [RUNNING, {"deaf": True}])
    bench.supervisor().start()
    bench.wait_for("a", "running")
    pid = bench.pid("a")
    job_dir.cancel_file.touch()
    job_dir.append(StatusChanged(status=JobStatus.CANCELLING))
    bench.wait_for("a", "cancelled")
    bench.wait(lambda: not Path(f"/proc/{pid}").exists())


def test_a_job_that_ended_stays_as_it_ended_whatever_is_written_later(bench: Bench) -> None:
    job_dir = bench.queue("a", [RUNNING, {"status": "succeeded"}])
    supervisor = bench.supervisor()
    supervisor.start()
    last_seq = bench.wait_for("a", "succeeded").last_seq
    job_dir.append(StatusChanged(status=JobStatus.CANCELLING))
    supervisor.nudge()
    time.sleep(0.5)
    assert (bench.row("a").status, bench.row("a").last_seq) == ("succeeded", last_seq)


def test_a_new_supervisor_finds_the_running_trainer_and_loses_and_doubles_nothing(bench: Bench) -> None:
    steps = [part for number in range(1, 40) for part in ({"step": number}, {"sleep": 0.05})]
    job_dir = bench.queue("a", [RUNNING, *steps, {"status": "succeeded"}])
    first = bench.supervisor()
    first.start()
    bench.wait(lambda: bench.row("a").step >= 3)
    first.stop()
    pid = bench.pid("a")
    time.sleep(0.5)
    bench.supervisor().start()
    bench.wait(lambda: bench.row("a").step >= 20)
    assert bench.pid("a") == pid
    bench.wait_for("a", "succeeded")
    assert bench.events("a") == list(job_dir.read_events())
    assert [event.step for event in bench.events("a") if isinstance(event, StepLogged)] == list(range(1, 40))


@pytest.mark.usefixtures("no_retries")
def test_a_trainer_that_died_while_nobody_watched_is_reported_after_the_restart(bench: Bench) -> None:
    bench.queue("a", [RUNNING, {"sleep": 600}])
    first = bench.supervisor()
    first.start()
    bench.wait_for("a", "running")
    first.stop()
    os.kill(bench.pid("a"), signal.SIGKILL)
    bench.supervisor().start()
    assert bench.wait_for("a", "failed").error_code == "worker_killed"


def test_a_trainer_is_found_by_its_command_line_when_the_server_died_before_recording_it(bench: Bench) -> None:
    job_dir = bench.queue("a", [RUNNING, {"until_cancel": True}])
    first = bench.supervisor()
    first.start()
    bench.wait_for("a", "running")
    first.stop()
    pid = bench.pid("a")
    job_dir.process_file.unlink()
    bench.supervisor().start()
    assert bench.pid("a") == pid


def test_a_job_whose_start_was_interrupted_before_any_process_goes_back_to_the_queue(bench: Bench) -> None:
    job_dir = bench.queue("a", [RUNNING, {"status": "succeeded"}])
    job_dir.append(StatusChanged(status=JobStatus.STARTING))
    bench.supervisor().start()
    bench.wait_for("a", "succeeded")


@pytest.mark.usefixtures("no_retries")
def test_after_a_reboot_the_reason_says_so(bench: Bench) -> None:
    job_dir = bench.queue("a", [RUNNING, {"sleep": 600}])
    first = bench.supervisor()
    first.start()
    bench.wait_for("a", "running")
    first.stop()
    recorded = job_dir.find_process()
    assert recorded is not None
    os.kill(recorded.pid, signal.SIGKILL)
    job_dir.process_file.write_text(recorded.model_copy(update={"boot_id": "another"}).model_dump_json())
    bench.supervisor().start()
    assert bench.wait_for("a", "failed").error_key == "worker_killed.restart"


def test_a_folder_that_the_database_does_not_know_is_listed_again_with_its_history(bench: Bench) -> None:
    job_dir = bench.queue("a", [RUNNING, {"step": 5}, {"status": "succeeded"}])
    first = bench.supervisor()
    first.start()
    before = bench.wait_for("a", "succeeded")
    first.stop()
    with bench.database.writing() as session:
        Jobs(session).delete(before)
    bench.supervisor().start()
    after = bench.row("a")
    assert (after.status, after.step, after.last_seq) == ("succeeded", 5, before.last_seq)
    assert bench.events("a") == list(job_dir.read_events())


def test_a_half_made_folder_of_a_job_nobody_was_promised_is_removed(bench: Bench) -> None:
    half = bench.folder(".new-a")
    half.create(make_job("a"))
    bench.supervisor().start()
    assert not half.path.exists()


def test_a_line_that_is_no_event_is_passed_over(bench: Bench) -> None:
    job_dir = bench.queue("a", [RUNNING, {"sleep": 0.5}, {"step": 1}, {"status": "succeeded"}])
    bench.supervisor().start()
    bench.wait_for("a", "running")
    with job_dir.events_file.open("ab") as file:
        file.write(b'{"kind": "from_the_future", "seq": 4}\n')
    assert bench.wait_for("a", "succeeded").step == 1


def test_a_trainer_survives_the_death_of_the_process_that_started_it(bench: Bench) -> None:
    bench.queue("a", [RUNNING, {"until_cancel": True}])
    bench.database.close()
    code = textwrap.dedent(f"""
        import os, signal, sys, time
        from pathlib import Path
        sys.path.insert(0, {str(SCRIPTED.parents[3])!r})
        from app.core.settings import Settings
        from app.jobs.broker import Broker
        from app.jobs.executors.local import LocalExecutor
        from app.jobs.supervisor import Supervisor
        from app.storage.db import Database
        from tests.unit.jobs.conftest import scripted_command
        settings = Settings(data_dir=Path({str(bench.settings.data_dir)!r}))
        database = Database(settings.resolved_database_url)
        Supervisor(settings, database, Broker(), LocalExecutor(scripted_command)).start()
        time.sleep(60)
    """)
    server = subprocess.Popen([sys.executable, "-c", code])
    bench.wait_for("a", "running")
    server.kill()
    server.wait()
    pid = bench.pid("a")
    assert Path(f"/proc/{pid}").exists()
    bench.supervisor().start()
    bench.folder("a").cancel_file.touch()
    bench.wait_for("a", "cancelled")


def test_a_job_that_lost_its_folder_fails_instead_of_waiting_for_ever(bench: Bench) -> None:
    job_dir = bench.queue("a", [RUNNING])
    shutil.rmtree(job_dir.path)
    bench.supervisor().start()
    assert bench.wait_for("a", "failed").error_key == "internal.folder_missing"


@pytest.mark.usefixtures("no_retries")
def test_what_a_killed_trainer_was_writing_is_removed_when_its_job_has_ended(bench: Bench) -> None:
    job_dir = bench.queue("a", [RUNNING, {"sleep": 60}])
    bench.supervisor().start()
    bench.wait_for("a", "running")
    half = job_dir.checkpoints / ".checkpoint-4.tmp"
    half.mkdir(parents=True)
    (half / "state.json").write_text("{")
    (job_dir.path / ".report.json.7.7.tmp").write_text("{")
    os.kill(bench.pid("a"), signal.SIGKILL)
    bench.wait_for("a", "failed")
    assert list(job_dir.path.rglob(".*.tmp")) == []
