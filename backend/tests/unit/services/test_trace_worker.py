"""The worker process and what is remembered of its answers: crashes, silence, idleness, restarts."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.contracts.plan import Notice
from app.contracts.trace import ProfileCall, TraceProfile
from app.services import trace_worker, tracing_service
from app.services.trace_worker import TraceFailed, TraceWorker
from app.services.tracing_service import Tracing
from app.storage.planner_dir import PlannerDir
from tests.unit.services.tracing import make_profile, make_request

BACKEND = Path(__file__).resolve().parents[3]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYTHONPATH", str(BACKEND))
    return tmp_path


@pytest.fixture
def worker(folder: Path) -> Iterator[TraceWorker]:
    made = open_worker(folder)
    yield made
    made.close()


def open_worker(folder: Path, idle_seconds: float = 60.0) -> TraceWorker:
    return TraceWorker(
        folder / "trace.log", idle_seconds, [sys.executable, "-m", "tests.unit.services.scripted_worker", str(folder)]
    )


def open_tracing(folder: Path, worker: TraceWorker) -> Tracing:
    return Tracing(PlannerDir(folder / "planner"), worker, enabled=True)


def lives(folder: Path) -> int:
    return len(list(folder.glob("life-*")))


def asked(folder: Path) -> list[str]:
    return (folder / "asked").read_text().split("\n")[:-1]


def wait_until_ended(worker: TraceWorker) -> None:
    deadline = time.monotonic() + 120
    while worker.pid is not None:
        assert time.monotonic() < deadline, "it did not end"
        time.sleep(0.02)


def test_one_process_answers_all_questions(worker: TraceWorker, folder: Path) -> None:
    for rank in (4, 8, 16):
        answer = worker.ask(ProfileCall(request=make_request(rank=rank)))
        assert answer.profile is not None and answer.profile.request.rank == rank
    assert lives(folder) == 1


def test_the_process_gives_way_to_others_and_is_limited(worker: TraceWorker) -> None:
    worker.ask(ProfileCall(request=make_request()))
    assert worker.pid is not None
    assert os.getpriority(os.PRIO_PROCESS, worker.pid) >= trace_worker.NICENESS
    limits = Path(f"/proc/{worker.pid}/limits").read_text()
    assert str(trace_worker.MEMORY_BYTES) in next(line for line in limits.splitlines() if line.startswith("Max data size"))
    environment = Path(f"/proc/{worker.pid}/environ").read_bytes().split(b"\0")
    assert b"CUDA_VISIBLE_DEVICES=" in environment


def test_a_process_that_dies_is_started_again_and_asked_again(worker: TraceWorker, folder: Path) -> None:
    answer = worker.ask(ProfileCall(request=make_request("dies once")))
    assert answer.profile is not None
    assert lives(folder) == 2


def test_a_process_killed_between_two_questions_is_replaced(worker: TraceWorker, folder: Path) -> None:
    worker.ask(ProfileCall(request=make_request()))
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)
    wait_until_ended(worker)
    assert worker.ask(ProfileCall(request=make_request())).profile is not None
    assert lives(folder) == 2


def test_a_question_that_kills_twice_fails_with_the_log(worker: TraceWorker, folder: Path) -> None:
    with pytest.raises(TraceFailed) as caught:
        worker.ask(ProfileCall(request=make_request("dies")))
    assert caught.value.notice == Notice(key="not_traced.crashed", params={"log": "trace.log"})
    assert lives(folder) == 2
    assert worker.ask(ProfileCall(request=make_request())).profile is not None


def test_silence_ends_the_process(worker: TraceWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    worker.ask(ProfileCall(request=make_request()))
    monkeypatch.setattr(trace_worker, "ANSWER_SECONDS", 0.3)
    with pytest.raises(TraceFailed) as caught:
        worker.ask(ProfileCall(request=make_request("sleeps")))
    assert caught.value.notice.key == "not_traced.slow"
    assert worker.pid is None


def test_a_line_that_is_no_answer_is_a_failure(worker: TraceWorker) -> None:
    with pytest.raises(TraceFailed):
        worker.ask(ProfileCall(request=make_request("babbles")))
    assert worker.ask(ProfileCall(request=make_request())).profile is not None


def test_an_idle_process_ends_and_comes_back(folder: Path) -> None:
    worker = open_worker(folder, idle_seconds=0.5)
    worker.ask(ProfileCall(request=make_request()))
    wait_until_ended(worker)
    assert worker.ask(ProfileCall(request=make_request())).profile is not None
    worker.close()
    assert worker.pid is None
    with pytest.raises(TraceFailed):
        worker.ask(ProfileCall(request=make_request()))


def test_a_command_that_cannot_be_started_is_a_failure(folder: Path) -> None:
    worker = TraceWorker(folder / "trace.log", 60.0, [str(folder / "nothing")])
    with pytest.raises(TraceFailed) as caught:
        worker.ask(ProfileCall(request=make_request()))
    assert caught.value.notice.key == "not_traced.start"


def test_a_profile_is_asked_for_once_and_survives_a_restart(worker: TraceWorker, folder: Path) -> None:
    tracing = open_tracing(folder, worker)
    first = tracing.trace(make_request())
    assert first == make_profile(make_request())
    assert tracing.trace(make_request()) == first
    later = open_tracing(folder, worker)
    assert later.trace(make_request()) == first
    assert asked(folder) == ["fine"]


def test_a_broken_file_of_the_cache_is_traced_again(worker: TraceWorker, folder: Path) -> None:
    open_tracing(folder, worker).trace(make_request())
    (kept,) = (folder / "planner" / "traces").iterdir()
    kept.write_text("{")
    assert isinstance(open_tracing(folder, worker).trace(make_request()), TraceProfile)
    assert asked(folder) == ["fine", "fine"]


def test_a_step_that_cannot_be_traced_is_not_tried_at_every_plan(
    worker: TraceWorker, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracing = open_tracing(folder, worker)
    for _ in range(3):
        assert isinstance(tracing.trace(make_request("refused")), Notice)
    assert asked(folder) == ["refused"]
    monkeypatch.setattr(tracing_service, "FAILURE_SECONDS", 0.0)
    assert isinstance(tracing.trace(make_request("refused")), Notice)
    assert asked(folder) == ["refused", "refused"]


def test_a_training_takes_the_memory_of_an_idle_worker(worker: TraceWorker, folder: Path) -> None:
    tracing = open_tracing(folder, worker)
    tracing.warm()
    assert worker.pid is not None
    tracing.release()
    assert worker.pid is None


def test_what_can_wait_is_traced_when_nobody_asks(worker: TraceWorker, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing_service, "CALM_SECONDS", 0.1)
    tracing = open_tracing(folder, worker)
    tracing.trace_later(make_request(rank=4))
    tracing.trace_later(make_request(rank=16))
    deadline = time.monotonic() + 120
    while tracing.find(make_request(rank=4)) is None or tracing.find(make_request(rank=16)) is None:
        assert time.monotonic() < deadline, "it was never traced"
        time.sleep(0.02)
    tracing.close()
    assert asked(folder) == ["fine", "fine"]
