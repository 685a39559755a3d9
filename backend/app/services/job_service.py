"""Jobs: queue, list, read, follow, cancel, delete."""

import hashlib
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.contracts.events import EvalLogged, JobEvent, Noted, StatusChanged, StepLogged, job_event
from app.contracts.job import TrainingJob
from app.contracts.status import JobStatus
from app.core.errors import Conflict, NotFound
from app.jobs.broker import read_after
from app.jobs.ingest import ingest
from app.jobs.supervisor import NEW_PREFIX
from app.services.disk_budget import check_room
from app.services.studio import Studio
from app.storage.dataset_dir import DatasetDir
from app.storage.job_dir import JobDir, RequestKey, fsync_folder, utc_now, write_atomically
from app.storage.repositories import ACTIVE, Events, Jobs, JobState
from app.storage.tables import IdempotencyKeyRow, JobRow

FOLLOW_SECONDS = 0.2


@dataclass(frozen=True)
class Reservation:
    """What an Idempotency-Key means: the job it already started, or a studio that will remember the new one."""

    studio: Studio
    found: JobRow | None = None


def find_or_reserve(studio: Studio, key: str | None, request: str) -> Reservation:
    """Look an Idempotency-Key up. Raise Conflict when it came with another request before."""
    if key is None:
        return Reservation(studio)
    wanted = RequestKey(key=key, request_hash=hashlib.sha256(request.encode()).hexdigest())
    with studio.database.reading() as session:
        found = _find_by_key(session, wanted)
    return Reservation(studio.for_request(wanted), found)


def _find_by_key(session: Session, wanted: RequestKey) -> JobRow | None:
    row = Jobs(session).find_key(wanted.key)
    if row is None:
        return None
    if row.request_hash != wanted.request_hash:
        raise Conflict("idempotency_key", key=wanted.key)
    return Jobs(session).find(row.job_id)


def enqueue(
    studio: Studio, job: TrainingJob, rows: DatasetDir | JobDir, start: Path | None = None, checkpoints: Sequence[Path] = ()
) -> JobRow:
    """Make the job's folder with its own links to the rows (and to the adapter or the checkpoints that it starts with), put the
    job in the queue and return its row.

    The folder is complete and on the disk before the row is committed: a crash in between leaves a folder without a row,
    which the next server lists (jobs/indexing.py), never a row without a folder.
    With an Idempotency-Key that another request has used meanwhile, return the job of that request. Raise DiskFull.
    """
    check_room(studio.settings.data_dir, job, rows)
    target = studio.job_dir(job.job_id)
    aside = JobDir(target.path.with_name(NEW_PREFIX + job.job_id))
    try:
        aside.create(job)
        os.link(rows.train_file, aside.train_file)
        if rows.heldout_file.exists():
            os.link(rows.heldout_file, aside.heldout_file)
        if start is not None:
            shutil.copytree(start, aside.start_adapter, copy_function=os.link)
        for checkpoint in checkpoints:
            shutil.copytree(checkpoint, aside.checkpoints / checkpoint.name, copy_function=os.link)
        if studio.request_key is not None:
            write_atomically(aside.request_file, studio.request_key.model_dump_json())
        aside.append(StatusChanged(status=JobStatus.QUEUED))
        for folder in (aside.path / "data", aside.path):
            fsync_folder(folder)
        with studio.database.writing() as session:
            row = Jobs(session).add(job, studio.folder_id)
            ingest(session, row, aside)
            if studio.request_key is not None:
                session.add(
                    IdempotencyKeyRow(
                        key=studio.request_key.key,
                        request_hash=studio.request_key.request_hash,
                        job_id=job.job_id,
                        created_at=utc_now(),
                    )
                )
            session.flush()
            aside.path.rename(target.path)
            fsync_folder(target.path.parent)
    except IntegrityError:
        with studio.database.reading() as session:
            found = _find_by_key(session, studio.request_key) if studio.request_key else None
        if found is None:
            raise
        return found
    finally:
        shutil.rmtree(aside.path, ignore_errors=True)
    studio.supervisor.nudge()
    return row


def list_jobs(
    session: Session, *, limit: int = 100, after: str | None = None, status: JobStatus | None = None
) -> Sequence[JobRow]:
    """Return jobs, newest first."""
    return Jobs(session).page(limit, after, status)


def get_job(session: Session, job_id: str) -> JobRow:
    """Return a job. Raise NotFound."""
    row = Jobs(session).find(job_id)
    if row is None:
        raise NotFound("job", job_id=job_id)
    return row


def get_here(studio: Studio, session: Session, job_id: str) -> tuple[JobRow, JobDir]:
    """Return a job and its folder. Raise NotFound; Conflict where the folder lies with a server that shares only the database."""
    row = get_job(session, job_id)
    return row, open_folder(studio, row)


def open_folder(studio: Studio, row: JobRow) -> JobDir:
    """Return the folder of a job. Raise Conflict where this server cannot reach it."""
    if row.folder_id not in (None, studio.folder_id):
        raise Conflict("elsewhere", job_id=row.job_id, host=row.host or "?")
    return studio.job_dir(row.job_id)


def lock_here(studio: Studio, session: Session, job_id: str) -> tuple[JobRow, JobDir]:
    """As `get_here`, and keep other writers from the job until the transaction ends."""
    row = Jobs(session).lock(job_id)
    if row is None:
        raise NotFound("job", job_id=job_id)
    return row, open_folder(studio, row)


def cancel(studio: Studio, job_id: str) -> JobRow:
    """Ask a job to stop: at once when it waits, at the next micro-batch when it runs. Repeating it changes nothing.

    Raise NotFound; Conflict when the job has succeeded or failed.
    """
    with studio.database.writing() as session:
        row, job_dir = lock_here(studio, session, job_id)
        ingest(session, row, job_dir)
        status = JobStatus(row.status)
        if status in (JobStatus.SUCCEEDED, JobStatus.FAILED):
            raise Conflict("job_ended", job_id=job_id, status=status.value)
        if status in (JobStatus.QUEUED, JobStatus.PAUSED):
            job_dir.append(StatusChanged(status=JobStatus.CANCELLED))
        elif status not in (JobStatus.CANCELLED, JobStatus.CANCELLING):
            job_dir.append(StatusChanged(status=JobStatus.CANCELLING))
            job_dir.cancel_file.touch()
        ingest(session, row, job_dir)
    studio.broker.wake(job_id)
    studio.supervisor.nudge()
    return row


def read_log(studio: Studio, session: Session, job_id: str, max_bytes: int) -> tuple[str, bool]:
    """Return the end of the trainer's log and whether something before it was left out. Raise NotFound."""
    _, job_dir = get_here(studio, session, job_id)
    return studio.supervisor.executor.logs(job_dir, max_bytes)


def can_chat(studio: Studio, row: JobRow | JobState) -> bool:
    """Whether the job left an adapter to talk to."""
    return row.status == JobStatus.SUCCEEDED and studio.job_dir(row.job_id).adapter_config.is_file()


def metrics(session: Session, job_id: str, name: str, points: int) -> tuple[list[int], list[float]]:
    """Return (steps, values) of one number, at most `points`, evenly chosen, the first and the last among them.

    A step that was done twice, because an attempt was lost, counts once, with its last value. Raise NotFound.
    """
    get_job(session, job_id)
    history: dict[int, float] = {}
    kind = "eval_logged" if name == "heldout_loss" else "step_logged"
    for body in Events(session).bodies(job_id, kind, points):
        event = job_event.validate_json(body)
        if isinstance(event, EvalLogged):
            history[event.step] = event.loss
        elif isinstance(event, StepLogged):
            history[event.step] = float(getattr(event, name))
    steps = sorted(history)
    return steps, [history[step] for step in steps]


def notices(session: Session, job_id: str) -> list[Noted]:
    """Return what trainer and supervisor noted about a job, in order."""
    events = (job_event.validate_json(row.body) for row in Events(session).of_kind(job_id, "noted"))
    return [event for event in events if isinstance(event, Noted)]


def worked_time(session: Session, row: JobRow) -> tuple[float, str | None]:
    """Return the seconds of the attempts that have ended, and when the one that goes on began, None where none does."""
    seconds, since = 0.0, None
    for attempt in Jobs(session).attempts(row.job_id):
        if attempt.finished_at is None:
            since = attempt.started_at if row.status in ACTIVE else None
        else:
            took = datetime.fromisoformat(attempt.finished_at) - datetime.fromisoformat(attempt.started_at)
            seconds += max(0.0, took.total_seconds())  # the clock may have been set back meanwhile
    return seconds, since


def follow(studio: Studio, job_id: str, after: int = 0) -> Iterator[JobEvent]:
    """Yield the events of a job until it has ended; works beside a server and with a supervisor of one's own."""
    while True:
        rows, ended = read_after(studio.database, job_id, after)
        for row in rows:
            after = row.seq
            yield job_event.validate_json(row.body)
        if not rows:
            if ended:
                return
            time.sleep(FOLLOW_SECONDS)
