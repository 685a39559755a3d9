"""A data folder as it is after years: thousands of finished jobs, one of them very long.

The folders are written as trainers leave them, and listed by the very code that rebuilds the index from job folders. Their
numbers are made up (a falling loss); their size and their kinds of events are those of real jobs.
"""

import itertools
import math
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from app.contracts.events import CheckpointSaved, EvalLogged, Event, JobFailed, PhaseStarted, StatusChanged, StepLogged
from app.contracts.job import TrainingJob
from app.contracts.report import Report
from app.contracts.status import JobStatus
from app.core.settings import Settings
from app.jobs.indexing import adopt
from app.services import dataset_service, finetuning_service, job_service
from app.services.studio import Studio, open_studio
from app.storage.job_dir import JobDir
from app.storage.model_store import EMBEDDED_ID
from app.storage.repositories import Jobs

STEPS = 20
"""Of an ordinary job."""
EVALUATED_EVERY = 10
LISTED_AT_ONCE = 250
LONG_JOB = "job-load-long"
SEQ, STEP, LOSS = 987654321, 987654322, 0.987654323
"""Numbers that stand where a pattern is filled in."""


def fill(data_dir: Path, jobs: int, long_steps: int) -> None:
    """Fill a data folder, or go on where an earlier call stopped: `jobs` ended jobs, then one of `long_steps` steps."""
    studio = open_studio(Settings(data_dir=data_dir, trace_plans=False))
    try:
        pattern = make_pattern(studio, dataset_service.import_sample(studio).dataset_id)
        with studio.database.reading() as session:
            known = Jobs(session).ids()
        rng = random.Random(5)
        began = datetime.now(UTC) - timedelta(minutes=10 * jobs)
        for first in range(0, jobs, LISTED_AT_ONCE):
            with studio.database.writing() as session:
                for number in range(first, min(first + LISTED_AT_ONCE, jobs)):
                    folder = studio.job_dir(f"job-load-{number:06d}")
                    status = rng.choices([JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED], [90, 6, 4])[0]
                    if folder.path.name not in known:
                        write_job(folder, pattern, began + timedelta(minutes=10 * number), STEPS, status)
                        adopt(session, folder, studio.folder_id)
        if LONG_JOB not in known:
            folder = studio.job_dir(LONG_JOB)
            write_job(folder, pattern, datetime.now(UTC), long_steps, JobStatus.SUCCEEDED)
            with studio.database.writing() as session:
                adopt(session, folder, studio.folder_id)
    finally:
        studio.close()


def make_pattern(studio: Studio, dataset_id: str) -> TrainingJob:
    """Return a job as a start would queue it, without keeping it."""
    row = finetuning_service.finetune(studio, dataset_id, EMBEDDED_ID)
    folder = studio.job_dir(row.job_id)
    job = folder.read_job()
    job_service.cancel(studio, row.job_id)
    job_service.delete_job(studio, row.job_id)
    return job


def write_job(folder: JobDir, pattern: TrainingJob, at: datetime, steps: int, end: JobStatus) -> JobDir:
    """Write the folder of an ended job and return it."""
    folder.path.mkdir(mode=0o700)
    job_id = folder.path.name
    job = pattern.model_copy(update={"job_id": job_id, "name": f"load {job_id}", "created_at": stamp(at)})
    folder.job_file.write_text(job.model_dump_json(indent=2))
    with folder.events_file.open("w") as file:
        file.writelines(list_lines(steps, end, stamp(at)))
    if end is JobStatus.SUCCEEDED:
        folder.adapter.mkdir()
        (folder.adapter / "adapter_config.json").write_text("{}")
        report = Report(
            heldout_rows=12, loss_before=3.0, loss_after=1.0, train_loss_first=3.0, train_loss_last=1.0, steps=steps,
            tokens=500 * steps, seconds=float(steps), peak_bytes=1 << 30, trained_rows=108, truncated_rows=0, dropped_rows=0,
            trained_token_share=0.5,
        )  # fmt: skip
        folder.report_file.write_text(report.model_dump_json())
    return folder


def list_lines(steps: int, end: JobStatus, at: str) -> Iterator[str]:
    """Yield the events of a job of so many steps as lines. Those of steps are filled into one pattern: there are millions."""
    numbers = itertools.count(1)

    def line(event: Event) -> str:
        return event.model_copy(update={"seq": next(numbers), "at": at}).model_dump_json() + "\n"

    for status in (JobStatus.QUEUED, JobStatus.STARTING, JobStatus.RUNNING):
        yield line(StatusChanged(status=status))
    yield line(PhaseStarted(phase="training"))
    yield line(EvalLogged(step=0, epoch=0.0, loss=3.0, rows=12, tokens=600))
    pattern = StepLogged(
        seq=SEQ, at=at, step=STEP, total_steps=steps, epoch=1.0, loss=LOSS, learning_rate=1.25e-4, grad_norm=0.731, tokens=500,
        tokens_per_second=512.25, peak_bytes=1 << 30, step_seconds=0.976, eta_seconds=60.0,
    ).model_dump_json()  # fmt: skip
    pattern = pattern.replace("%", "%%").replace(str(SEQ), "%d").replace(str(STEP), "%d").replace(str(LOSS), "%.6f") + "\n"
    evaluated = EVALUATED_EVERY * max(1, steps // 10_000)
    for step in range(1, steps + 1):
        loss = 1 + 2 * math.exp(-4 * step / steps)
        yield pattern % (next(numbers), step, loss + 0.1 * math.sin(step))
        if step % evaluated == 0:
            yield line(EvalLogged(step=step, epoch=3 * step / steps, loss=loss, rows=12, tokens=600))
            yield line(CheckpointSaved(step=step, name=f"checkpoint-{step}", size_bytes=20_000_000))
    if end is JobStatus.FAILED:
        yield line(JobFailed(code="worker_killed", key="worker_killed"))
    else:
        if end is JobStatus.CANCELLED:
            yield line(StatusChanged(status=JobStatus.CANCELLING))
        yield line(StatusChanged(status=end))


def stamp(moment: datetime) -> str:
    """Return a time as events carry it."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
