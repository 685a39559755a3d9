"""Pause, resume and prioritise a job; go on from a checkpoint of one that has ended; list its checkpoints."""

import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sqlalchemy.orm import Session

from app.contracts.events import Noted, PriorityChanged, StatusChanged
from app.contracts.job import ResumeFrom, TrainingJob
from app.contracts.status import JobStatus
from app.core.errors import Conflict, Invalid, NotFound
from app.jobs.ingest import ingest
from app.jobs.retries import RESUMED_BY_HAND
from app.services import job_service
from app.services.studio import Studio
from app.storage.checkpoint_dir import count_bytes, find_best, is_whole, list_checkpoints, list_reasons, step_of
from app.storage.job_dir import utc_now
from app.storage.repositories import Jobs
from app.storage.tables import JobRow

_S = JobStatus


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint of a job, as it lies in the folder."""

    name: str
    step: int
    size_bytes: int
    whole: bool
    """False when a file is missing or changed since it was written."""
    best: bool
    """The lowest loss on held-out rows of those that were measured."""
    kept_for: list[str]


def pause(studio: Studio, job_id: str) -> JobRow:
    """Ask a job to stop at a checkpoint. Repeating it changes nothing.

    Raise NotFound; Conflict unless the job is starting, running, pausing or paused.
    """
    with studio.database.writing() as session:
        row, job_dir = job_service.lock_here(studio, session, job_id)
        ingest(session, row, job_dir)
        status = JobStatus(row.status)
        if status not in (_S.STARTING, _S.RUNNING, _S.PAUSING, _S.PAUSED):
            raise Conflict("pause", job_id=job_id, status=status.value)
        if status in (_S.STARTING, _S.RUNNING):
            job_dir.append(StatusChanged(status=_S.PAUSING))
            job_dir.pause_file.touch()
            ingest(session, row, job_dir)
    studio.broker.wake(job_id)
    studio.supervisor.nudge()
    return row


def resume(studio: Studio, job_id: str) -> JobRow:
    """Put a paused job back into the queue: it goes on from its last checkpoint. Repeating it changes nothing.

    Raise NotFound; Conflict for a job that is still pausing or has ended.
    """
    with studio.database.writing() as session:
        row, job_dir = job_service.lock_here(studio, session, job_id)
        ingest(session, row, job_dir)
        status = JobStatus(row.status)
        if status in (_S.FAILED, _S.CANCELLED):
            raise Conflict("resume_ended", job_id=job_id, status=status.value)
        if status in (_S.PAUSING, _S.CANCELLING, _S.SUCCEEDED):
            raise Conflict("resume", job_id=job_id, status=status.value)
        if status is _S.PAUSED:
            job_dir.pause_file.unlink(missing_ok=True)
            job_dir.append(Noted(level="info", key=RESUMED_BY_HAND))
            job_dir.append(StatusChanged(status=_S.QUEUED))
            ingest(session, row, job_dir)
    studio.broker.wake(job_id)
    studio.supervisor.nudge()
    return row


def prioritise(studio: Studio, job_id: str, priority: int | Literal["next"]) -> JobRow:
    """Let a job start earlier (a higher number) or later than those of another priority, or before every one that waits.

    It counts while the job waits, and again when it is resumed or tried anew. Raise NotFound; Conflict for a job that has ended.
    """
    with studio.database.writing() as session:
        row, job_dir = job_service.lock_here(studio, session, job_id)
        ingest(session, row, job_dir)
        if JobStatus(row.status).terminal:
            raise Conflict("job_ended", job_id=job_id, status=row.status)
        if priority == "next":
            highest = Jobs(session).find_highest_priority(studio.folder_id, but=job_id)
            priority = row.priority if highest is None or row.priority > highest else highest + 1
        if priority != row.priority:
            job_dir.append(PriorityChanged(priority=priority))
            ingest(session, row, job_dir)
    studio.broker.wake(job_id)
    studio.supervisor.nudge()
    return row


def list_job_checkpoints(studio: Studio, session: Session, job_id: str) -> list[Checkpoint]:
    """Return the checkpoints of a job, the newest first. Raise NotFound."""
    folder = job_service.get_here(studio, session, job_id)[1].checkpoints
    best = find_best(folder)
    return [
        Checkpoint(path.name, step_of(path), count_bytes(path), is_whole(path), path == best, list_reasons(path))
        for path in list_checkpoints(folder)
    ]


def continue_ended(
    studio: Studio, wanted: ResumeFrom, *, dataset_id: str, model_name: str, name: str | None, options: dict[str, Any]
) -> JobRow:
    """Queue a new job that goes on from a checkpoint of a failed or cancelled one, and return its row.

    It has the values, the rows and the random numbers of that job, so that the end is the one it would have had; the
    rows come from its folder, whatever became of the data set. `options` may repeat those values, not change them.
    Raise NotFound (job, checkpoint); Conflict (not ended, nothing saved, damaged); Invalid for another model, data set or value.
    """
    with studio.database.reading() as session:
        row, folder = job_service.get_here(studio, session, wanted.job_id)
    if JobStatus(row.status) not in (_S.FAILED, _S.CANCELLED):
        raise Conflict("resume_from_status", job_id=wanted.job_id, status=row.status)
    old = folder.read_job()
    _check_same(old, dataset_id, model_name, options)
    checkpoint = _get_checkpoint(folder.checkpoints, wanted)
    source = studio.models.resolve(old.model.model_id).model_copy(update={"display_name": old.model.display_name})
    if source.commit != old.model.commit:
        raise Conflict("resume_model_changed", job_id=wanted.job_id, model_id=old.model.model_id)
    job = old.model_copy(
        update={
            "job_id": f"job-{uuid.uuid4().hex[:12]}",
            "name": (name or "").strip() or old.name,
            "created_at": utc_now(),
            "model": source,
            "resumed_from": old.job_id,
        }
    )
    start = folder.start_adapter if folder.start_adapter.exists() else None
    best = find_best(folder.checkpoints)
    earlier_best = [best] if best is not None and step_of(best) < step_of(checkpoint) else []
    return job_service.enqueue(studio, job, folder, start, [checkpoint, *earlier_best])


def _check_same(old: TrainingJob, dataset_id: str, model_name: str, options: dict[str, Any]) -> None:
    if old.dataset.dataset_id != dataset_id:
        raise Invalid("resume_from", job_id=old.job_id, option="dataset_id", value=old.dataset.dataset_id)
    if model_name not in (old.model.model_id, old.plan.model_id):
        raise Invalid("resume_from", job_id=old.job_id, option="model_name", value=old.model.model_id)
    for option, value in options.items():
        resolved = old.plan.resolved.get(option)
        if value is not None and resolved is not None and resolved.value != value:
            raise Invalid("resume_from", job_id=old.job_id, option=option, value=resolved.value)


def _get_checkpoint(folder: Path, wanted: ResumeFrom) -> Path:
    found = list_checkpoints(folder)
    if wanted.checkpoint is not None:
        named = [path for path in found if path.name == wanted.checkpoint]
        if not named:
            raise NotFound("checkpoint", job_id=wanted.job_id, name=wanted.checkpoint)
        found = named
    whole = next((path for path in found if is_whole(path)), None)
    if whole is None:
        raise Conflict("no_checkpoint", job_id=wanted.job_id)
    return whole
