"""Each job that succeeds leaves one line: what was planned beside what it took."""

import json
from datetime import datetime

import pytest

from app.contracts.events import PhaseStarted
from app.jobs.recording import count_planned_bytes
from app.storage.planner_dir import PlannerDir
from tests.unit.jobs.conftest import RUNNING, Bench, make_job

PEAK = 987_654_321


def records(bench: Bench) -> PlannerDir:
    return PlannerDir(bench.settings.data_dir / "planner")


def test_a_job_that_succeeds_is_recorded_with_its_measured_peak_and_time(bench: Bench) -> None:
    bench.queue("a", [RUNNING, {"step": 1}, {"sleep": 0.3}, {"report": PEAK}, {"status": "succeeded"}])
    bench.supervisor().start()
    bench.wait_for("a", "succeeded")
    bench.wait(lambda: bool(records(bench).read_records()))
    (record,) = records(bench).read_records()
    assert (record.job_id, record.measured_peak_bytes, record.device_kind) == ("a", PEAK, "cpu")
    assert record.measured_seconds is not None and record.measured_seconds >= 0.3


def test_the_time_of_a_download_is_not_training_time(bench: Bench) -> None:
    phases = [RUNNING, {"phase": "downloading"}, {"sleep": 1.5}, {"phase": "loading"}, {"report": PEAK}, {"status": "succeeded"}]
    bench.queue("a", phases)
    bench.supervisor().start()
    bench.wait_for("a", "succeeded")
    (record,) = records(bench).read_records()
    events = bench.events("a")
    starting = next(event for event in events if getattr(event, "status", None) == "starting")
    downloading, loading = (event for event in events if isinstance(event, PhaseStarted))
    whole, download = (
        (datetime.fromisoformat(end) - datetime.fromisoformat(begin)).total_seconds()
        for begin, end in ((starting.at, events[-1].at), (downloading.at, loading.at))
    )
    assert download > 0 and record.measured_seconds == pytest.approx(whole - download, abs=0.01)


def test_a_job_that_fails_or_leaves_no_report_is_not_recorded(bench: Bench) -> None:
    bench.queue("failing", [RUNNING, {"report": PEAK}, {"exit": 1}])
    bench.queue("silent", [RUNNING, {"status": "succeeded"}])
    bench.supervisor().start()
    bench.wait_for("failing", "failed")
    bench.wait_for("silent", "succeeded")
    assert records(bench).read_records() == []


def test_a_job_of_several_attempts_is_recorded_without_a_time(bench: Bench) -> None:
    bench.queue("a", [RUNNING, {"status": "queued"}], [RUNNING, {"report": PEAK}, {"status": "succeeded"}])
    bench.supervisor().start()
    bench.wait(lambda: bool(records(bench).read_records()))
    (record,) = records(bench).read_records()
    assert (record.measured_seconds, record.measured_peak_bytes) == (None, PEAK)


def test_on_a_card_the_context_is_not_part_of_what_the_allocator_is_compared_with() -> None:
    job = make_job("a", device_id="cuda:0")
    parts = job.plan.parts.model_copy(update={"context": 300, "weights": 700})
    planned = job.model_copy(update={"plan": job.plan.model_copy(update={"parts": parts, "peak_bytes": parts.total})})
    assert count_planned_bytes(planned) == 700
    assert count_planned_bytes(planned.model_copy(update={"device_id": "cpu"})) == 1000


def test_a_line_torn_by_a_crash_costs_no_other_record(bench: Bench) -> None:
    for name in ("a", "b"):
        bench.queue(name, [RUNNING, {"report": PEAK}, {"status": "succeeded"}])
    supervisor = bench.supervisor()
    supervisor.start()
    bench.wait_for("b", "succeeded")
    bench.wait(lambda: len(records(bench).read_records()) == 2)
    (first, second) = records(bench).read_records()
    records(bench).records_file.write_text(first.model_dump_json() + "\n" + json.dumps({"job_id": "torn"})[:9])
    records(bench).append_record(second)
    assert [record.job_id for record in records(bench).read_records()] == ["a", "b"]
    records(bench).append_record(second)
    assert [record.job_id for record in records(bench).read_records()] == ["a", "b"]
