"""`affinage doctor --rebuild-index`: make the database again from the folders of jobs and data sets."""

import logging
import time
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import delete, or_, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DatabaseError
from sqlalchemy.orm import Session

from app.core.settings import Settings
from app.jobs.indexing import adopt
from app.storage.dataset_dir import clean_up, list_datasets
from app.storage.db import Database
from app.storage.folder_identity import read_folder_id
from app.storage.job_dir import JobDir
from app.storage.migrate import migration_engine, upgrade
from app.storage.repositories import Datasets, Jobs
from app.storage.server_lock import ServerLock
from app.storage.tables import DatasetRow, JobRow

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RebuiltIndex:
    """What the folders held."""

    jobs: int
    events: int
    datasets: int
    unreadable: list[str] = field(default_factory=list)
    """Names of job folders without a readable job.json: left alone, not listed."""
    set_aside: Path | None = None
    """Where the damaged database lies now."""


def rebuild_index(settings: Settings) -> RebuiltIndex:
    """Replace what the database knows about this data folder by what the folder holds. Raise AlreadyServed."""
    with ServerLock(settings.data_dir).acquire("doctor"):
        return rebuild_alone(settings)


def rebuild_alone(settings: Settings) -> RebuiltIndex:
    """As `rebuild_index`; the caller holds the server's lock. All of it happens in one transaction or not at all."""
    url, data_dir = settings.resolved_database_url, settings.data_dir
    set_aside = None if settings.shares_database else _set_aside_damaged(Path(make_url(url).database or ""), url)
    upgrade(url, data_dir, alone=True)
    folder_id = read_folder_id(data_dir)
    clean_up(data_dir / "datasets")
    readable, unreadable = _read_jobs(data_dir / "jobs")
    datasets = list_datasets(data_dir / "datasets")
    database = Database(url)
    try:
        with database.writing() as session:
            _forget(session, folder_id, [job_dir.path.name for _, job_dir in readable])
            events = 0
            for _, job_dir in sorted(readable, key=lambda one: (one[0], one[1].path.name)):
                events += adopt(session, job_dir, folder_id).last_seq
                session.flush()
                session.expunge_all()
            for folder in datasets:
                Datasets(session).put(folder.read_info(), folder_id)
    finally:
        database.close()
    return RebuiltIndex(len(readable), events, len(datasets), unreadable, set_aside)


def _forget(session: Session, folder_id: str, job_ids: list[str]) -> None:
    """Delete the rows of this folder, and those of its jobs that came with another folder (a restored copy)."""
    Jobs(session).settle(folder_id)
    session.execute(delete(JobRow).where(JobRow.folder_id == folder_id))
    for start in range(0, len(job_ids), 500):
        session.execute(delete(JobRow).where(JobRow.job_id.in_(job_ids[start : start + 500])))
    session.execute(delete(DatasetRow).where(or_(DatasetRow.folder_id == folder_id, DatasetRow.folder_id.is_(None))))
    session.expunge_all()


def _read_jobs(folder: Path) -> tuple[list[tuple[str, JobDir]], list[str]]:
    """Return (time of creation, folder) of each job, and the names of the folders that hold none."""
    readable, unreadable = [], []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        job_dir = JobDir(path)
        if path.name.startswith(".") or not path.is_dir():
            continue
        try:
            job = job_dir.read_job()
        except (OSError, ValueError) as problem:
            log.warning("The folder %s holds no readable job: %s", path.name, problem)
            unreadable.append(path.name)
            continue
        if job.job_id == path.name:
            readable.append((job.created_at, job_dir))
        else:
            unreadable.append(path.name)
    return readable, unreadable


def _set_aside_damaged(file: Path, url: str) -> Path | None:
    """Rename a SQLite database that is damaged; return where it lies now, None for a sound one or none at all."""
    if not file.exists() or _is_sound(url):
        return None
    target = file.with_name(f"{file.name}.damaged-{time.strftime('%Y%m%d-%H%M%S')}")
    for suffix in ("-wal", "-shm"):
        beside = file.with_name(file.name + suffix)
        if beside.exists():
            beside.rename(target.with_name(target.name + suffix))
    return file.rename(target)


def _is_sound(url: str) -> bool:
    engine = migration_engine(url)
    try:
        with engine.connect() as connection:
            answer = connection.execute(text("PRAGMA integrity_check")).scalars().all()
        return answer == ["ok"]
    except DatabaseError:
        return False
    finally:
        engine.dispose()
