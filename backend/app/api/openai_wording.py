"""Jobs, events, checkpoints and data sets in the words of OpenAI's interface."""

import base64
import csv
import io
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TypeVar

from sqlalchemy.orm import Session

from app.api.schemas.openai_tuning import (
    CheckpointMetrics,
    Dpo,
    DpoHyperparameters,
    FileRead,
    Hyperparameters,
    Page,
    Status,
    Supervised,
    TuningCheckpoint,
    TuningError,
    TuningEvent,
    TuningJob,
    TuningMethod,
)
from app.api.wording import error_read, notice_read
from app.contracts.dataset import DatasetInfo
from app.contracts.events import (
    CheckpointSaved,
    EvalLogged,
    JobEvent,
    JobFailed,
    Noted,
    PhaseStarted,
    StatusChanged,
    StepLogged,
    job_event,
)
from app.contracts.job import TrainingJob
from app.contracts.status import JobStatus
from app.core.errors import Invalid
from app.core.messages import Language, localise
from app.services import job_control
from app.services.openai_jobs import find_asked
from app.services.openai_names import ORGANISATION, checkpoint_name, tuned_name
from app.services.studio import Studio
from app.storage.repositories import Events
from app.storage.tables import JobEventRow, JobRow

T = TypeVar("T")
RESULTS = "results-"
"""Before a job's id: the file with its curve."""
STATUSES: dict[JobStatus, Status] = {
    JobStatus.QUEUED: "queued",
    JobStatus.STARTING: "queued",
    JobStatus.RUNNING: "running",
    JobStatus.PAUSING: "running",
    JobStatus.PAUSED: "queued",
    JobStatus.CANCELLING: "running",
    JobStatus.SUCCEEDED: "succeeded",
    JobStatus.FAILED: "failed",
    JobStatus.CANCELLED: "cancelled",
}


def unix_seconds(at: str) -> int:
    """Return a time as OpenAI writes it: seconds since 1970."""
    return int(datetime.fromisoformat(at).timestamp())


def find_start(ids: Sequence[str], after: str | None) -> int:
    """Return the place behind `after` in a list; 0 without one. Raise Invalid where the list does not hold it."""
    if after is None:
        return 0
    if after not in ids:
        raise unknown_cursor(after)
    return ids.index(after) + 1


def unknown_cursor(after: str) -> Invalid:
    """Return the refusal of a page behind something that is not there: to begin anew would show everything twice."""
    return Invalid("after", [{"field": "after"}], after=after)


def page(items: Sequence[T], ids: Sequence[str], limit: int) -> Page[T]:
    """Return the first `limit` items of a list that may hold more."""
    shown = list(items[:limit])
    names = list(ids[:limit])
    return Page(
        data=shown,
        first_id=names[0] if names else None,
        last_id=names[-1] if names else None,
        has_more=len(items) > limit,
    )


def tuning_job(studio: Studio, row: JobRow, language: Language) -> TuningJob:
    """Return a job."""
    job = TrainingJob.model_validate_json(row.spec)
    asked = find_asked(studio, row)
    status = JobStatus(row.status)
    failure = error_read(row, language) if status is JobStatus.FAILED else None
    succeeded = status is JobStatus.SUCCEEDED
    hyperparameters = Hyperparameters(
        n_epochs=job.optimization.num_epochs,
        batch_size=job.optimization.effective_batch_size,
        learning_rate_multiplier=asked.learning_rate_multiplier or 1.0,
    )
    finish = None
    if status is JobStatus.RUNNING and row.eta_seconds is not None:
        finish = int(datetime.now(UTC).timestamp() + row.eta_seconds)
    return TuningJob(
        id=row.job_id,
        created_at=unix_seconds(row.created_at),
        finished_at=unix_seconds(row.finished_at) if row.finished_at else None,
        estimated_finish=finish,
        status=STATUSES[status],
        model=row.model_id,
        fine_tuned_model=tuned_name(row.model_id, row.job_id, asked.suffix) if succeeded else None,
        organization_id=ORGANISATION,
        training_file=asked.training_file,
        validation_file=asked.validation_file,
        result_files=[f"{RESULTS}{row.job_id}"] if succeeded else [],
        seed=job.optimization.seed,
        trained_tokens=row.tokens if succeeded else None,
        hyperparameters=hyperparameters,
        method=_method(job, hyperparameters),
        error=TuningError(code=failure.code, message=f"{failure.message} {failure.hint}".strip()) if failure else None,
        metadata=asked.metadata,
    )


def _method(job: TrainingJob, hyperparameters: Hyperparameters) -> TuningMethod:
    if job.method == "dpo":
        return TuningMethod(type="dpo", dpo=Dpo(hyperparameters=DpoHyperparameters(**dict(hyperparameters), beta=job.beta)))
    return TuningMethod(type="supervised", supervised=Supervised(hyperparameters=hyperparameters))


def event_id(row: JobEventRow) -> str:
    """Return the name of an event."""
    return f"ftevent-{row.job_id}-{row.seq}"


def tuning_event(studio: Studio, job: JobRow, row: JobEventRow, language: Language) -> TuningEvent:
    """Return an event with a sentence."""
    event = job_event.validate_json(row.body)
    level, message = _told(studio, job, event, language)
    data = _numbers(event)
    return TuningEvent(
        id=event_id(row),
        created_at=unix_seconds(event.at),
        level=level,
        message=message,
        type="metrics" if data else "message",
        data=data,
    )


def _told(studio: Studio, job: JobRow, event: JobEvent, language: Language) -> tuple[str, str]:
    match event:
        case StepLogged():
            text = localise("tuning.step", language, step=event.step, total=event.total_steps, loss=event.loss)[0]
        case EvalLogged():
            text = localise("tuning.evaluated", language, step=event.step, loss=event.loss)[0]
        case CheckpointSaved():
            text = localise("tuning.checkpoint", language, step=event.step)[0]
        case StatusChanged(status=JobStatus.SUCCEEDED):
            text = localise(
                "tuning.succeeded", language, model=tuned_name(job.model_id, job.job_id, find_asked(studio, job).suffix)
            )[0]
        case StatusChanged():
            text = localise("tuning.status", language, status=STATUSES[event.status])[0]
        case JobFailed():
            return "error", notice_read(event.key, event.params, language).message
        case Noted():
            return ("warn" if event.level == "warning" else "info"), notice_read(event.key, event.params, language).message
        case PhaseStarted():
            text = notice_read(f"cli.phase_{event.phase}", {}, language).message
        case _:
            text = event.kind
    return "info", text


def _numbers(event: JobEvent) -> dict[str, float | str | None] | None:
    if isinstance(event, StepLogged):
        return {
            "step": event.step,
            "total_steps": event.total_steps,
            "train_loss": event.loss,
            "learning_rate": event.learning_rate,
        }
    if isinstance(event, EvalLogged):
        return {"step": event.step, "full_valid_loss": event.loss}
    return None


def tuning_checkpoints(studio: Studio, session: Session, row: JobRow) -> list[TuningCheckpoint]:
    """Return the checkpoints of a job that can be asked, newest first."""
    train, valid, times = _curve(session, row.job_id)
    tuned = tuned_name(row.model_id, row.job_id, find_asked(studio, row).suffix)
    return [
        TuningCheckpoint(
            id=f"ftckpt-{row.job_id}-{found.step}",
            created_at=times.get(found.step, unix_seconds(row.created_at)),
            fine_tuned_model_checkpoint=checkpoint_name(tuned, found.step),
            fine_tuning_job_id=row.job_id,
            step_number=found.step,
            metrics=CheckpointMetrics(step=found.step, train_loss=train.get(found.step), full_valid_loss=valid.get(found.step)),
        )
        for found in job_control.list_job_checkpoints(studio, session, row.job_id)
        if found.whole
    ]


def _curve(session: Session, job_id: str) -> tuple[dict[int, float], dict[int, float], dict[int, int]]:
    """Return training loss, held-out loss and the time of a checkpoint, each by step."""
    train: dict[int, float] = {}
    valid: dict[int, float] = {}
    times: dict[int, int] = {}
    for kind in ("step_logged", "eval_logged", "checkpoint_saved"):
        for row in Events(session).of_kind(job_id, kind):
            match job_event.validate_json(row.body):
                case StepLogged(step=step, loss=loss):
                    train[step] = loss
                case EvalLogged(step=step, loss=loss):
                    valid[step] = loss
                case CheckpointSaved(step=step, at=at):
                    times[step] = unix_seconds(at)
    return train, valid, times


def results_table(session: Session, job_id: str) -> bytes:
    """Return a job's curve as OpenAI gives it: CSV, in base64."""
    train, valid, _ = _curve(session, job_id)
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["step", "train_loss", "train_accuracy", "valid_loss", "valid_mean_token_accuracy"])
    for step in sorted(train | valid):
        writer.writerow([step, train.get(step, ""), "", valid.get(step, ""), ""])
    return base64.b64encode(text.getvalue().encode())


def file_read(info: DatasetInfo) -> FileRead:
    """Return a data set as a file."""
    return FileRead(
        id=info.dataset_id,
        bytes=info.source_bytes,
        created_at=unix_seconds(info.created_at),
        filename=f"{info.name}.{info.format}",
        purpose="fine-tune",
    )


def results_file(session: Session, row: JobRow) -> FileRead:
    """Return a job's curve as a file."""
    return FileRead(
        id=f"{RESULTS}{row.job_id}",
        bytes=len(results_table(session, row.job_id)),
        created_at=unix_seconds(row.finished_at or row.created_at),
        filename="step_metrics.csv",
        purpose="fine-tune-results",
    )
