"""Trainers that hang are found, asked, and ended; those that only work slowly are left alone."""

import os
import signal

import pytest

from app.contracts.events import CheckpointSaved, Noted, StatusChanged
from app.contracts.status import JobStatus
from app.core.settings import Settings
from app.jobs import watchdog
from app.jobs.retries import MAX_RETRIES, RESUMED_BY_HAND, count_retries
from app.jobs.watchdog import Step, Watchdog
from app.storage.job_dir import JobDir
from tests.unit.jobs.conftest import RUNNING, Bench


class Clock:
    """Seconds that a test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_silence_leads_to_stacks_then_the_wish_to_end_then_the_end(bench: Bench) -> None:
    job_dir, clock = bench.queue("a", [RUNNING]), Clock()
    dog = Watchdog(60.0, clock)
    job_dir.heartbeat_file.touch()
    steps = []
    for _ in range(100):
        steps.append(dog.look("a", job_dir))
        clock.now += 1
    taken = [(second, step) for second, step in enumerate(steps) if step is not None]
    assert [step for _, step in taken][:4] == [Step.DUMP, Step.TERMINATE, Step.KILL, Step.KILL]
    assert taken[0][0] == 61
    assert dog.has_stalled("a")
    dog.forget("a")
    assert not dog.has_stalled("a") and dog.look("a", job_dir) is None


def test_a_heartbeat_starts_the_waiting_anew_whatever_the_clock_on_the_wall_says(bench: Bench) -> None:
    job_dir, clock = bench.queue("a", [RUNNING]), Clock()
    dog = Watchdog(60.0, clock)
    for beat in range(20):
        os.utime(job_dir.heartbeat_file, (beat * -1e6 + 2e9, beat * -1e6 + 2e9)) if beat else job_dir.heartbeat_file.touch()
        assert dog.look("a", job_dir) is None  # the time of the file goes back by eleven days each time
        clock.now += 50
    assert not dog.has_stalled("a")


def impatient(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the supervisor that comes next wait less than a second at each stage."""
    bench.settings = Settings(data_dir=bench.settings.data_dir, stop_grace_seconds=0.5, stall_seconds=1.0)
    monkeypatch.setattr(watchdog, "DUMP_SECONDS", 0.1)
    monkeypatch.setattr(watchdog, "KILL_SECONDS", 0.3)


def test_a_trainer_that_hangs_is_ended_and_its_job_goes_on(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    impatient(bench, monkeypatch)
    bench.queue("a", [RUNNING, {"step": 1}, {"deaf": True}], [RUNNING, {"step": 2}, {"status": "succeeded"}])
    bench.supervisor().start()
    bench.wait_for("a", "succeeded")
    notes = [event for event in bench.events("a") if isinstance(event, Noted)]
    assert [(note.key, note.params) for note in notes] == [("stalled.retry", {"retry": 1, "limit": MAX_RETRIES})]


def test_one_that_hangs_every_time_is_given_up_with_the_cause(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    impatient(bench, monkeypatch)
    monkeypatch.setattr("app.jobs.autopsy.MAX_RETRIES", 1)
    bench.queue("a", [RUNNING, {"deaf": True}])
    bench.supervisor().start()
    assert bench.wait_for("a", "failed").error_code == "stalled"


def test_a_stopped_process_counts_as_one_that_hangs(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    impatient(bench, monkeypatch)
    bench.queue("a", [RUNNING, {"step": 1}, {"sleep": 600}], [RUNNING, {"status": "succeeded"}])
    bench.supervisor().start()
    bench.wait(lambda: bench.row("a").step == 1)
    os.kill(bench.pid("a"), signal.SIGSTOP)
    bench.wait_for("a", "succeeded")


def test_tries_count_only_since_the_job_last_got_on_or_was_resumed(bench: Bench) -> None:
    job_dir = bench.queue("a", [RUNNING])
    lost = Noted(level="warning", key="worker_killed.retry", params={"retry": 1, "limit": 3})

    def count(*events: Noted | CheckpointSaved) -> int:
        for event in events:
            job_dir.append(event)
        take_in(bench, job_dir)
        with bench.database.reading() as session:
            return count_retries(session, "a")

    assert count() == 0
    assert count(lost, lost) == 2
    assert count(CheckpointSaved(step=5, name="checkpoint-5", size_bytes=1)) == 0
    assert count(lost) == 1
    assert count(Noted(level="info", key=RESUMED_BY_HAND)) == 0


def take_in(bench: Bench, job_dir: JobDir) -> None:
    from app.jobs.ingest import ingest
    from app.storage.repositories import Jobs

    with bench.database.writing() as session:
        row = Jobs(session).lock(job_dir.path.name)
        assert row is not None
        ingest(session, row, job_dir)


def test_a_word_that_comes_too_late_changes_nothing_and_leaves_no_gap(bench: Bench) -> None:
    job_dir = bench.queue("a", [RUNNING])
    for status in (JobStatus.STARTING, JobStatus.CANCELLING, JobStatus.RUNNING):
        job_dir.append(StatusChanged(status=status))
    take_in(bench, job_dir)
    assert bench.row("a").status == "cancelling"
    events = bench.events("a")
    assert [event.seq for event in events] == [1, 2, 3, 4]
    assert isinstance(events[3], Noted) and events[3].params == {"status": "cancelling", "new_status": "running"}
