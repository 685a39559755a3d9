"""A data folder as it is after years: thousands of finished jobs, one of them very long.

The folders are written as trainers leave them, and listed by the very code that rebuilds the index from job folders. Their
numbers are made up (a falling loss); their size and their kinds of events are those of real jobs.
"""

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

STEPS = 20
"""Of an ordinary job."""
EVALUATED_EVERY = 10
LISTED_AT_ONCE = 250
LONG_JOB = "job-load-long"


def fill(data_dir: Path, jobs: int, long_steps: int) -> str:
    """Fill a new data folder: `jobs` ended jobs and one of `long_steps` steps, newest of all. Return the data set's id."""
    studio = open_studio(Settings(data_dir=data_dir, trace_plans=False))
    try:
        dataset = dataset_service.import_sample(studio)
        pattern = make_pattern(studio, dataset.dataset_id)
        rng = random.Random(5)
        began = datetime.now(UTC) - timedelta(minutes=10 * jobs)
        for first in range(0, jobs, LISTED_AT_ONCE):
            with studio.database.writing() as session:
                for number in range(first, min(first + LISTED_AT_ONCE, jobs)):
                    at = began + timedelta(minutes=10 * number)
                    status = rng.choices([JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED], [90, 6, 4])[0]
                    folder = write_job(studio.job_dir(f"job-load-{number:06d}"), pattern, at, STEPS, status)
                    adopt(session, folder, studio.folder_id)
        with studio.database.writing() as session:
            folder = write_job(studio.job_dir(LONG_JOB), pattern, datetime.now(UTC), long_steps, JobStatus.SUCCEEDED)
            adopt(session, folder, studio.folder_id)
        return dataset.dataset_id
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
        for seq, event in enumerate(list_events(steps, end), 1):
            moment = stamp(at + timedelta(seconds=seq))
            file.write(event.model_copy(update={"seq": seq, "at": moment}).model_dump_json() + "\n")
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


def list_events(steps: int, end: JobStatus) -> Iterator[Event]:
    """Yield what a job of so many steps tells."""
    yield StatusChanged(status=JobStatus.QUEUED)
    yield StatusChanged(status=JobStatus.STARTING)
    yield StatusChanged(status=JobStatus.RUNNING)
    yield PhaseStarted(phase="training")
    yield EvalLogged(step=0, epoch=0.0, loss=3.0, rows=12, tokens=600)
    evaluated = EVALUATED_EVERY * max(1, steps // 10_000)
    for step in range(1, steps + 1):
        yield StepLogged(
            step=step, total_steps=steps, epoch=3 * step / steps, loss=1 + 2 * math.exp(-4 * step / steps) + 0.1 * math.sin(step),
            learning_rate=2e-4 * (1 - step / steps), grad_norm=0.731, tokens=500 * step, tokens_per_second=512.25,
            peak_bytes=1 << 30, step_seconds=0.976, eta_seconds=float(steps - step),
        )  # fmt: skip
        if step % evaluated == 0:
            yield EvalLogged(step=step, epoch=3 * step / steps, loss=1 + 2 * math.exp(-4 * step / steps), rows=12, tokens=600)
            yield CheckpointSaved(step=step, name=f"checkpoint-{step}", size_bytes=20_000_000)
    if end is JobStatus.FAILED:
        yield JobFailed(code="worker_killed", key="worker_killed")
    else:
        if end is JobStatus.CANCELLED:
            yield StatusChanged(status=JobStatus.CANCELLING)
        yield StatusChanged(status=end)


def stamp(moment: datetime) -> str:
    """Return a time as events carry it."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
