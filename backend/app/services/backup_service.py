"""Back the data folder up while trainings run, and put it back."""

import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path

from app.core.errors import Conflict, NotFound
from app.core.settings import Settings
from app.services.index_service import RebuiltIndex, rebuild_alone
from app.services.system_service import versions
from app.storage.archive import FOLDERS, BackupHeader, gather, pack, unpack
from app.storage.job_dir import JobDir, fsync_folder, utc_now, write_atomically
from app.storage.server_lock import ServerLock

RESTORING = ".restoring"
"""File in the data folder while a restored backup is being put in place: what an interrupted one left may be replaced."""


@dataclass(frozen=True)
class Backup:
    """A backup that was written."""

    file: Path
    size_bytes: int
    jobs: int
    datasets: int


def back_up(settings: Settings, target: Path, *, with_models: bool = False) -> Backup:
    """Write jobs, data sets, measurements and the list of added models into one tar file; nothing has to stop.

    Models are left out unless asked for: they can be fetched again. Raise NotFound where there is no data folder,
    Conflict when the file exists.
    """
    data_dir = settings.data_dir
    if not (data_dir / "jobs").is_dir():
        raise NotFound("data_dir", data_dir=data_dir)
    if target.exists():
        raise Conflict("backup_exists", file=target)
    staging = gather(data_dir, with_models=with_models)
    try:
        header = BackupHeader(
            made_at=utc_now(),
            affinage=versions()["affinage"],
            data_dir=str(data_dir),
            jobs=_count(staging / "jobs"),
            datasets=_count(staging / "datasets"),
        )
        return Backup(target, pack(staging, header, target), header.jobs, header.datasets)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def restore(settings: Settings, source: Path) -> RebuiltIndex:
    """Put a backup into an empty data folder and list what it holds; unfinished jobs go on from their last checkpoint.

    Raise NotFound without such a file, Invalid for a damaged one, Conflict for a folder that is in use or holds
    anything. Nothing is put in place before every byte was compared; an interrupted restore can be repeated.
    """
    if not source.is_file():
        raise NotFound("backup", file=source)
    data_dir = settings.data_dir
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with ServerLock(data_dir).acquire("restore"):
        marker = data_dir / RESTORING
        holds_something = any(_count(data_dir / name) for name in ("jobs", "datasets"))
        if holds_something and not marker.exists():
            raise Conflict("restore_target", data_dir=data_dir)
        staging = data_dir / "tmp" / f"restore-{uuid.uuid4().hex[:8]}"
        staging.mkdir(mode=0o700, parents=True)
        try:
            header = unpack(source, staging)
            _move_models(staging, header.data_dir, data_dir)
            marker.touch()
            for name in FOLDERS:
                _put_in_place(staging / name, data_dir / name, replace=name in ("jobs", "datasets"))
            rebuilt = rebuild_alone(settings)
            marker.unlink()
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    return rebuilt


def _count(folder: Path) -> int:
    return sum(1 for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")) if folder.is_dir() else 0


def _move_models(staging: Path, old: str, new: Path) -> None:
    """Make jobs look for the models of the old data folder in the new one."""
    for folder in (staging / "jobs").iterdir() if (staging / "jobs").is_dir() else []:
        job_dir = JobDir(folder)
        job = job_dir.read_job()
        path = Path(job.model.path)
        if path.is_relative_to(old) and Path(old) != new:
            moved = job.model.model_copy(update={"path": str(new / path.relative_to(old))})
            write_atomically(job_dir.job_file, job.model_copy(update={"model": moved}).model_dump_json(indent=2))


def _put_in_place(source: Path, target: Path, *, replace: bool) -> None:
    if not source.is_dir():
        return
    if replace and target.is_dir():
        shutil.rmtree(target)
    target.mkdir(mode=0o700, parents=True, exist_ok=True)
    for entry in sorted(source.iterdir()):
        if entry.is_dir() and (target / entry.name).is_dir():
            _put_in_place(entry, target / entry.name, replace=False)
        else:
            entry.rename(target / entry.name)
    fsync_folder(target)
