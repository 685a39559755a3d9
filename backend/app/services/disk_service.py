"""What takes the disk, and what of it can go without harm: weights that nobody uses now, checkpoints of jobs that have ended."""

import os
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.orm import Session

from app.contracts.status import JobStatus
from app.core.errors import Conflict, NotFound
from app.services import job_service
from app.services.studio import Studio
from app.storage.export_dir import ExportDir
from app.storage.job_dir import JobDir
from app.storage.model_store import EMBEDDED_ID
from app.storage.repositories import Jobs
from app.storage.tables import JobRow

LARGEST_JOBS = 50
PAGE = 200


@dataclass(frozen=True)
class KeptModel:
    """Weights that the studio keeps itself; folders of the user's own are not among them."""

    model_id: str
    bytes: int
    running_jobs: int
    """Jobs in the queue, at work or being exported with it: as long as there are any, it cannot go."""
    finished_jobs: int
    """Jobs whose adapters need it to answer; it can be fetched (or unpacked) again."""


@dataclass(frozen=True)
class KeptJob:
    """The folder of one job."""

    job_id: str
    name: str
    status: JobStatus
    bytes: int
    checkpoint_bytes: int
    export_bytes: int
    deletable: bool


@dataclass(frozen=True)
class DiskUse:
    """The disk of the data folder."""

    folder: str
    total_bytes: int
    free_bytes: int
    parts: dict[str, int]
    """Bytes of `models`, `datasets`, `jobs`, `checkpoints`, `exports`, `other`; a file with two names counts once."""
    models: list[KeptModel]
    jobs: list[KeptJob]
    """The largest first, at most LARGEST_JOBS."""


def measure(studio: Studio, session: Session) -> DiskUse:
    """Look at every file of the data folder."""
    data_dir = studio.settings.data_dir
    seen: set[tuple[int, int]] = set()
    datasets = count_bytes(data_dir / "datasets", seen)
    rows = list(_all_jobs(session))
    jobs = [_measure_job(row, studio.job_dir(row.job_id), seen) for row in rows]
    models = [
        _measure_model(studio, model_id, folders, rows, seen)
        for model_id, folders in sorted(_find_weights(data_dir / "models").items())
    ]
    checkpoints = sum(job.checkpoint_bytes for job in jobs)
    exports = sum(job.export_bytes for job in jobs)
    known = {
        "models": sum(model.bytes for model in models),
        "datasets": datasets,
        "jobs": sum(job.bytes for job in jobs) - checkpoints - exports,
        "checkpoints": checkpoints,
        "exports": exports,
    }
    disk = shutil.disk_usage(data_dir)
    return DiskUse(
        folder=str(data_dir),
        total_bytes=disk.total,
        free_bytes=disk.free,
        parts={**known, "other": count_bytes(data_dir, seen)},
        models=models,
        jobs=sorted(jobs, key=lambda job: -job.bytes)[:LARGEST_JOBS],
    )


def delete_weights(studio: Studio, model_id: str) -> None:
    """Delete the weights of a model that the studio keeps.

    Raise NotFound; Conflict while a job, an export or a download needs them.
    """
    found = _find_weights(studio.settings.data_dir / "models").get(model_id)
    if not found:
        raise NotFound("weights", model_id=model_id)
    with studio.database.writing() as session:  # whoever starts a job or an export waits for this lock
        for row in _all_jobs(session):
            if row.model_id == model_id:
                _check_unused(studio, row)
        download = studio.downloads.find(model_id)
        if download is not None and download.state == "running":
            raise Conflict("weights_downloading", model_id=model_id)
        removed = [_put_aside(folder, studio.settings.data_dir / "tmp") for folder in found]
    for folder in removed:
        shutil.rmtree(folder, ignore_errors=True)


def _check_unused(studio: Studio, row: JobRow) -> None:
    if not JobStatus(row.status).terminal:
        raise Conflict("weights_in_use", model_id=row.model_id, job_id=row.job_id)
    made = ExportDir(studio.job_dir(row.job_id).path).find_under_way()
    if made is not None:
        raise Conflict("weights_exported", model_id=row.model_id, job_id=row.job_id, format=made)


def delete_checkpoints(studio: Studio, session: Session, job_id: str) -> None:
    """Delete the checkpoints of a job that has ended; its adapter and its report stay. Raise NotFound, Conflict."""
    row = job_service.get_job(session, job_id)
    if not JobStatus(row.status).terminal:
        raise Conflict("job_active", job_id=job_id, status=row.status)
    folder = studio.job_dir(job_id).checkpoints
    if folder.is_dir():
        shutil.rmtree(_put_aside(folder, studio.settings.data_dir / "tmp"), ignore_errors=True)


def count_bytes(folder: Path, seen: set[tuple[int, int]]) -> int:
    """Return the bytes of every file below `folder` that is not among `seen` (device, inode), and add them to it.

    What vanishes meanwhile counts nothing; links are not followed.
    """
    total = 0
    pending = [folder]
    while pending:
        try:
            entries = list(os.scandir(pending.pop()))
        except OSError:
            continue
        for entry in entries:
            try:
                if entry.is_dir(follow_symlinks=False):
                    pending.append(Path(entry.path))
                    continue
                stat = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            if (stat.st_dev, stat.st_ino) not in seen:
                seen.add((stat.st_dev, stat.st_ino))
                total += stat.st_size
    return total


def _measure_job(row: JobRow, folder: JobDir, seen: set[tuple[int, int]]) -> KeptJob:
    checkpoints = count_bytes(folder.checkpoints, seen)
    exports = count_bytes(folder.path / "exports", seen)
    status = JobStatus(row.status)
    return KeptJob(
        job_id=row.job_id,
        name=row.name,
        status=status,
        bytes=checkpoints + exports + count_bytes(folder.path, seen),
        checkpoint_bytes=checkpoints,
        export_bytes=exports,
        deletable=status.terminal,
    )


def _measure_model(
    studio: Studio, model_id: str, folders: list[Path], rows: list[JobRow], seen: set[tuple[int, int]]
) -> KeptModel:
    used = [row for row in rows if row.model_id == model_id]
    return KeptModel(
        model_id=model_id,
        bytes=sum(count_bytes(folder, seen) for folder in folders),
        running_jobs=sum(
            not JobStatus(row.status).terminal or ExportDir(studio.job_dir(row.job_id).path).find_under_way() is not None
            for row in used
        ),
        finished_jobs=sum(row.status == JobStatus.SUCCEEDED for row in used),
    )


def _find_weights(models: Path) -> dict[str, list[Path]]:
    """Return the folders of each model below models/embedded and models/hub (storage/model_store.py)."""
    found: dict[str, list[Path]] = {}
    embedded, hub = models / "embedded", models / "hub"
    for folder in embedded.iterdir() if embedded.is_dir() else []:
        if folder.is_dir() and folder.name == Path(EMBEDDED_ID).name:
            found.setdefault(EMBEDDED_ID, []).append(folder)
    for folder in hub.iterdir() if hub.is_dir() else []:
        if folder.is_dir():
            found.setdefault(folder.name.replace("--", "/", 1), []).append(folder)
    return found


def _all_jobs(session: Session) -> Iterator[JobRow]:
    after = None
    while True:
        page = Jobs(session).page(PAGE, after, None)
        yield from page
        if len(page) < PAGE:
            return
        after = page[-1].job_id


def _put_aside(folder: Path, trash: Path) -> Path:
    """Give the folder another name before its files go, so that nobody finds half of it; return that."""
    aside = trash / f"deleted-{uuid.uuid4().hex}"
    folder.rename(aside)
    return aside
