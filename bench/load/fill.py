"""A data folder as it is after years: thousands of finished jobs, one of them very long.

One job of each ending is written as a trainer leaves it and listed by the code that rebuilds the index; the others are
copies of its rows and links to its files. The long run's rows are made inside SQLite. Numbers are made up (a falling loss);
sizes and kinds of rows are those of real jobs.
"""

import os
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import insert, select, text
from sqlalchemy.orm import Session

from app.contracts.events import CheckpointSaved, EvalLogged, Event, JobFailed, PhaseStarted, StatusChanged, StepLogged
from app.contracts.job import TrainingJob
from app.contracts.report import Report
from app.contracts.status import JobStatus
from app.core.settings import Settings
from app.jobs.indexing import adopt
from app.services import dataset_service, deletion, finetuning_service, job_service
from app.services.studio import Studio, open_studio
from app.storage.job_dir import JobDir
from app.storage.model_store import EMBEDDED_ID
from app.storage.tables import JobRow

STEPS = 20
"""Of an ordinary job."""
EVALUATED_EVERY = 10
SHARES = {JobStatus.SUCCEEDED: 90, JobStatus.FAILED: 6, JobStatus.CANCELLED: 4}
LONG_JOB = "job-load-long"
LONG_EVALUATED_EVERY = 1000
COPY_EVENTS = text("INSERT INTO job_events SELECT :copy, seq, kind, body FROM job_events WHERE job_id = :original")
MAKE_STEPS = text(
    r"""
    WITH RECURSIVE steps(step) AS (SELECT 1 UNION ALL SELECT step + 1 FROM steps WHERE step < :steps)
    INSERT INTO job_events
    SELECT :job, 5 + step + (step - 1) / :every, 'step_logged',
      replace(replace(replace(:step_body, '"seq"\:1,', '"seq"\:' || (5 + step + (step - 1) / :every) || ','),
        '"step"\:1,', '"step"\:' || step || ','), '"loss"\:1.0,', '"loss"\:' || (1.0 + 2.0 / step) || ',')
    FROM steps
    UNION ALL
    SELECT :job, 5 + step + step / :every, 'eval_logged',
      replace(replace(:eval_body, '"seq"\:1,', '"seq"\:' || (5 + step + step / :every) || ','),
        '"step"\:1,', '"step"\:' || step || ',')
    FROM steps WHERE step % :every = 0
    """
)
"""Events 1 to 5 are those before the first step; after every :every-th step comes an evaluation."""


def fill(data_dir: Path, jobs: int, long_steps: int) -> None:
    """Fill a new data folder with `jobs` ended jobs and one of `long_steps` steps, newest of all."""
    studio = open_studio(Settings(data_dir=data_dir, trace_plans=False))
    try:
        pattern = make_pattern(studio, dataset_service.import_sample(studio).dataset_id)
        rng = random.Random(5)
        began = datetime.now(UTC) - timedelta(minutes=10 * jobs)
        originals: dict[JobStatus, JobDir] = {}
        with studio.database.writing() as session:
            for status in SHARES:
                originals[status] = write_job(studio.job_dir(f"job-load-{status}"), pattern, status)
                adopt(session, originals[status], studio.folder_id)
            for number in range(jobs - len(SHARES)):
                status = rng.choices(list(SHARES), list(SHARES.values()))[0]
                at = stamp(began + timedelta(minutes=10 * number))
                copy_job(session, originals[status], studio.job_dir(f"job-load-{number:06d}"), at)
            copy_job(session, originals[JobStatus.SUCCEEDED], studio.job_dir(LONG_JOB), stamp(datetime.now(UTC)))
            lengthen(session, long_steps)
    finally:
        studio.close()


def make_pattern(studio: Studio, dataset_id: str) -> TrainingJob:
    """Return a job as a start would queue it, without keeping it."""
    row = finetuning_service.finetune(studio, dataset_id, EMBEDDED_ID)
    job = studio.job_dir(row.job_id).read_job()
    job_service.cancel(studio, row.job_id)
    deletion.delete_job(studio, row.job_id)
    return job


def write_job(folder: JobDir, pattern: TrainingJob, end: JobStatus) -> JobDir:
    """Write the folder of an ended job and return it."""
    folder.path.mkdir(mode=0o700)
    job = pattern.model_copy(update={"job_id": folder.path.name, "name": f"load, {end}"})
    folder.job_file.write_text(job.model_dump_json(indent=2))
    at = pattern.created_at
    with folder.events_file.open("w") as file:
        for seq, event in enumerate(list_events(end), 1):
            file.write(event.model_copy(update={"seq": seq, "at": at}).model_dump_json() + "\n")
    if end is JobStatus.SUCCEEDED:
        folder.adapter.mkdir()
        folder.adapter_config.write_text("{}")
        report = Report(
            heldout_rows=12, loss_before=3.0, loss_after=1.0, train_loss_first=3.0, train_loss_last=1.0, steps=STEPS,
            tokens=500 * STEPS, seconds=float(STEPS), peak_bytes=1 << 30, trained_rows=108, truncated_rows=0, dropped_rows=0,
            trained_token_share=0.5,
        )  # fmt: skip
        folder.report_file.write_text(report.model_dump_json())
    return folder


def logged_step(step: int) -> StepLogged:
    """Return one step."""
    return StepLogged(
        step=step, total_steps=STEPS, epoch=3.0, loss=1.0, learning_rate=2e-4, grad_norm=0.731, tokens=500 * step,
        tokens_per_second=512.25, peak_bytes=1 << 30, step_seconds=0.976, eta_seconds=20.0,
    )  # fmt: skip


def list_events(end: JobStatus) -> Iterator[Event]:
    """Yield what an ordinary job tells."""
    for status in (JobStatus.QUEUED, JobStatus.STARTING, JobStatus.RUNNING):
        yield StatusChanged(status=status)
    yield PhaseStarted(phase="training")
    yield EvalLogged(step=0, epoch=0.0, loss=3.0, rows=12, tokens=600)
    for step in range(1, STEPS + 1):
        yield logged_step(step)
        if step % EVALUATED_EVERY == 0:
            yield EvalLogged(step=step, epoch=3 * step / STEPS, loss=1.0, rows=12, tokens=600)
            yield CheckpointSaved(step=step, name=f"checkpoint-{step}", size_bytes=20_000_000)
    if end is JobStatus.FAILED:
        yield JobFailed(code="worker_killed", key="worker_killed")
    else:
        if end is JobStatus.CANCELLED:
            yield StatusChanged(status=JobStatus.CANCELLING)
        yield StatusChanged(status=end)


def copy_job(session: Session, original: JobDir, copy: JobDir, at: str) -> None:
    """List a job once more under another name, with links to the same files."""
    copy.path.mkdir(mode=0o700)
    for file in original.path.rglob("*"):
        target = copy.path / file.relative_to(original.path)
        target.mkdir(mode=0o700) if file.is_dir() else os.link(file, target)
    columns = [column for column in JobRow.__table__.columns if column.name != "number"]
    row = dict(session.execute(select(*columns).where(JobRow.job_id == original.path.name)).mappings().one())
    session.execute(insert(JobRow), [row | {"job_id": copy.path.name, "name": f"load {copy.path.name}", "created_at": at}])
    session.execute(COPY_EVENTS, {"copy": copy.path.name, "original": original.path.name})


def lengthen(session: Session, steps: int) -> None:
    """Give the long job its steps."""
    session.execute(text("DELETE FROM job_events WHERE job_id = :job AND seq > 5"), {"job": LONG_JOB})
    evaluated = EvalLogged(seq=1, at="2026-01-01T00:00:00.000Z", step=1, epoch=1.0, loss=1.5, rows=12, tokens=600)
    bodies = {"step_body": logged_step(1).model_copy(update={"seq": 1, "at": evaluated.at}).model_dump_json()}
    bodies["eval_body"] = evaluated.model_dump_json()
    session.execute(MAKE_STEPS, {"job": LONG_JOB, "steps": steps, "every": LONG_EVALUATED_EVERY, **bodies})
    last = 5 + steps + steps // LONG_EVALUATED_EVERY
    values = {"job": LONG_JOB, "last": last, "steps": steps}
    session.execute(text("UPDATE jobs SET last_seq = :last, step = :steps, total_steps = :steps WHERE job_id = :job"), values)


def stamp(moment: datetime) -> str:
    """Return a time as rows carry it."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
