"""Runs of very many steps: taken in without holding them in memory, charted without reading them through."""

import itertools
import tracemalloc
from typing import Any

import pytest
from sqlalchemy import event

from app.contracts.events import EvalLogged, StatusChanged, StepLogged
from app.contracts.status import JobStatus
from app.jobs.ingest import ingest
from app.services import job_service
from app.storage.job_dir import JobDir, utc_now
from app.storage.repositories import Events, Jobs
from tests.unit.jobs.conftest import Bench

pytestmark = pytest.mark.both_databases
STEPS = 3000


def write_steps(folder: JobDir, first_seq: int, steps: int) -> None:
    """Append steps, with an evaluation after every hundredth, as a trainer does."""
    with folder.events_file.open("a") as file:
        seq = first_seq
        for step in range(1, steps + 1):
            logged = StepLogged(
                seq=seq, at=utc_now(), step=step, total_steps=steps, epoch=1.0, loss=1 / step, learning_rate=1e-4, grad_norm=1.0,
                tokens=step, tokens_per_second=1.0, peak_bytes=1, step_seconds=1.0, eta_seconds=0.0,
            )  # fmt: skip
            file.write(logged.model_dump_json() + "\n")
            seq += 1
            if step % 100 == 0:
                evaluated = EvalLogged(seq=seq, at=utc_now(), step=step, epoch=1.0, loss=2 / step, rows=1, tokens=1)
                file.write(evaluated.model_dump_json() + "\n")
                seq += 1


def take_in(bench: Bench, steps: int) -> int:
    """Queue job `a`, let it run so many steps, take everything in; return how many events that were."""
    folder = bench.queue("a", [])
    for status in (JobStatus.STARTING, JobStatus.RUNNING):
        folder.append(StatusChanged(status=status))
    write_steps(folder, 4, steps)
    with bench.database.writing() as session:
        row = Jobs(session).lock("a")
        assert row is not None
        return ingest(session, row, folder)


def test_a_chart_takes_its_points_from_the_whole_run_and_keeps_both_ends(bench: Bench) -> None:
    take_in(bench, STEPS)
    with bench.database.reading() as session:
        steps, values = job_service.metrics(session, "a", "loss", 50)
        assert steps[0] == 1 and steps[-1] == STEPS and len(steps) == 50
        assert values == [1 / step for step in steps]
        gaps = [later - earlier for earlier, later in itertools.pairwise(steps)]
        assert max(gaps) - min(gaps) <= 3  # evenly, but for the evaluations between
        every, _ = job_service.metrics(session, "a", "loss", 5000)
        assert every == list(range(1, STEPS + 1))
        assert job_service.metrics(session, "a", "heldout_loss", 500)[0] == list(range(100, STEPS + 1, 100))
        assert job_service.metrics(session, "a", "heldout_loss", 2)[0] == [100, STEPS]


def test_a_chart_reads_no_more_events_than_it_has_points(bench: Bench) -> None:
    take_in(bench, STEPS)
    fetched: list[int] = []
    with bench.database.reading() as session:
        real = session.scalars

        def scalars(*arguments: Any, **named: Any) -> Any:
            found = real(*arguments, **named).all()
            fetched.append(len(found))
            return real(*arguments, **named)

        session.scalars = scalars  # type: ignore[method-assign]
        job_service.metrics(session, "a", "loss", 40)
    assert fetched and max(fetched) <= 40


def test_a_long_run_is_taken_in_piece_by_piece(bench: Bench) -> None:
    inserted: list[int] = []

    def note(_c: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, many: bool) -> None:
        if statement.lower().startswith("insert into job_events"):
            inserted.append(len(parameters) if many else 1)

    event.listen(bench.database.engine, "before_cursor_execute", note)
    tracemalloc.start()
    assert take_in(bench, STEPS) == STEPS + STEPS // 100 + 2
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(inserted) > 3
    assert peak < bench.folder("a").events_file.stat().st_size * 4
    with bench.database.reading() as session:
        assert [row.seq for row in Events(session).after("a", 0, limit=10_000)] == list(range(1, STEPS + STEPS // 100 + 4))
