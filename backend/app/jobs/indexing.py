"""Bring the database in line with the job folders: list a folder again, and give each side what only the other has."""

import logging

from sqlalchemy import delete
from sqlalchemy.orm import Session

from app.contracts.events import JobEvent, JobFailed, Noted, StatusChanged, job_event
from app.contracts.status import JobStatus
from app.jobs.ingest import ingest
from app.storage.job_dir import JobDir
from app.storage.repositories import Events, Jobs
from app.storage.tables import IdempotencyKeyRow, JobAttemptRow, JobRow

log = logging.getLogger(__name__)


def adopt(session: Session, job_dir: JobDir, folder_id: str) -> JobRow:
    """List a folder that the database does not know: row, events, attempts and Idempotency-Key. Raise ValueError for a
    folder without a readable job."""
    job = job_dir.read_job()
    if job.job_id != job_dir.path.name:
        raise ValueError(f"the folder {job_dir.path.name} holds job {job.job_id}")
    row = Jobs(session).add(job, folder_id)
    ingest(session, row, job_dir)
    session.add_all(list_attempts(session, row, job.optimization.micro_batch_size))
    request = job_dir.find_request()
    if request is not None:
        session.execute(delete(IdempotencyKeyRow).where(IdempotencyKeyRow.key == request.key))
        session.add(
            IdempotencyKeyRow(key=request.key, request_hash=request.request_hash, job_id=row.job_id, created_at=job.created_at)
        )
    session.flush()
    if not job_dir.is_trained():  # a copy may hold what the original's trainer was writing
        job_dir.clear_leftovers()
    return row


def list_attempts(session: Session, row: JobRow, micro_batch_size: int) -> list[JobAttemptRow]:
    """Return the attempts that the events of a job tell of. How often the kernel had killed before each is not known."""
    attempts: list[JobAttemptRow] = []
    lacked_memory = False
    stored = [*Events(session).of_kind(row.job_id, "status_changed"), *Events(session).of_kind(row.job_id, "job_failed")]
    stored += Events(session).of_kind(row.job_id, "noted")
    for event in (job_event.validate_json(one.body) for one in sorted(stored, key=lambda one: one.seq)):
        if isinstance(event, Noted):
            if event.key == "oom_host.retry":
                micro_batch_size, lacked_memory = int(event.params["micro_batch_size"]), True
        elif isinstance(event, StatusChanged) and event.status is JobStatus.STARTING:
            number = len(attempts) + 1
            attempts.append(
                JobAttemptRow(
                    job_id=row.job_id, number=number, micro_batch_size=micro_batch_size, started_at=event.at, host=row.host
                )
            )
        elif attempts and attempts[-1].finished_at is None:
            outcome = _outcome(event)
            if outcome is not None:
                attempts[-1].finished_at = event.at
                attempts[-1].outcome = "oom_host" if lacked_memory else outcome
                lacked_memory = False
    return attempts


def _outcome(event: JobEvent) -> str | None:
    """Return how an attempt ended by this event; None where it goes on."""
    if isinstance(event, JobFailed):
        return event.code
    if isinstance(event, StatusChanged):
        ended = event.status.terminal or event.status in (JobStatus.QUEUED, JobStatus.PAUSED)
        return event.status.value if ended else None
    return None


def mend_events(session: Session, row: JobRow, job_dir: JobDir) -> None:
    """Write the events that only the database has into the job's file.

    Steps are not forced to the disk one by one: after a loss of power, or in a copy that was taken while files
    changed, the file may end before what was taken in.
    """
    size = job_dir.events_file.stat().st_size if job_dir.events_file.exists() else 0
    if size >= row.events_offset:
        return
    row.last_seq, row.events_offset = job_dir.restore_lines(Events(session).lines(row.job_id))
    session.flush()
    log.warning("Job %s: %d bytes of events.jsonl were lost and are restored from the database.", row.job_id, size)
