"""Exports of a job: ask for one, see how far it is, take its files, delete it.

Each is made by a process of its own (`python -m app.export`), which outlives this one and writes down how far it is; those of
one data folder wait for each other.
"""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.orm import Session

from app.contracts.export import ExportFormat, ExportState
from app.contracts.job import TrainingJob
from app.core.errors import Conflict, NotFound
from app.services import job_service
from app.services.export_offers import Offer, find_problem, list_offers, read_config
from app.services.finetuning_service import MODEL_CONFIGS, get_model
from app.services.run_plan import find_config
from app.services.studio import Studio
from app.storage.export_dir import ExportDir
from app.storage.job_dir import JobDir, utc_now
from app.storage.tables import JobRow

LOG_NAME = "exports.log"


@dataclass(frozen=True)
class Exported:
    """An export as it is now."""

    state: ExportState
    folder: Path
    files: dict[str, int]
    """Name and bytes of each finished file."""


def list_exports(studio: Studio, session: Session, job_id: str) -> tuple[list[Exported], list[Offer]]:
    """Return what was asked for, and every format with whether it is possible. Raise NotFound."""
    row, folder = job_service.get_here(studio, session, job_id)
    exports = ExportDir(folder.path)
    return [_read(exports, state) for state in exports.states()], list_offers(
        read_config(Path(TrainingJob.model_validate_json(row.spec).model.path))
    )


def get_export(studio: Studio, session: Session, job_id: str, export_format: ExportFormat) -> Exported:
    """Return one export. Raise NotFound."""
    _, folder = job_service.get_here(studio, session, job_id)
    exports = ExportDir(folder.path)
    state = exports.find_state(export_format)
    if state is None:
        raise NotFound("export", job_id=job_id, format=export_format)
    return _read(exports, state)


def get_file(studio: Studio, session: Session, job_id: str, export_format: ExportFormat, name: str) -> Path:
    """Return the path of one finished file. Raise NotFound: only files that lie in the export's folder have a name here."""
    exported = get_export(studio, session, job_id, export_format)
    if name not in exported.files:
        raise NotFound("export_file", format=export_format, file=name)
    return exported.folder / name


def get_finished(studio: Studio, session: Session, job_id: str, export_format: ExportFormat) -> Exported:
    """Return an export whose certificate passed. Raise NotFound, Conflict."""
    exported = get_export(studio, session, job_id, export_format)
    if exported.state.status != "succeeded" or not exported.files:
        raise Conflict("export_not_made", format=export_format)
    return exported


def start_export(studio: Studio, job_id: str, export_format: ExportFormat) -> Exported:
    """Begin an export, or begin it anew. Raise NotFound, Conflict (no adapter; being made), Unsupported (the model's shape)."""
    with studio.database.writing() as session:  # the job cannot be deleted between the look and the note that it is exported
        row, folder = job_service.lock_here(studio, session, job_id)
        job = prepare(studio, row, export_format)
        exports = ExportDir(folder.path)
        if exports.is_under_way(exports.find_state(export_format)):
            raise Conflict("export_running")
        state = ExportState(format=export_format, status="queued", created_at=utc_now(), licence=find_licence(job))
        exports.write_state(state)
    with (studio.settings.data_dir / "logs" / LOG_NAME).open("ab") as output:
        subprocess.Popen(
            command(folder, export_format),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return _read(exports, state)


def prepare(studio: Studio, row: JobRow, export_format: ExportFormat) -> TrainingJob:
    """Return the job of `row` if it can be exported. Raise Conflict, Unsupported."""
    if not job_service.can_chat(studio, row):
        raise Conflict("not_exportable", job_id=row.job_id, status=row.status)
    job = TrainingJob.model_validate_json(row.spec)
    problem = find_problem(read_config(Path(job.model.path)), export_format)
    if problem is not None:
        raise problem
    return job


def command(job_dir: JobDir, export_format: ExportFormat, *, rehearsal: bool = False) -> list[str]:
    """Return the command line of the process that makes an export."""
    return [sys.executable, "-m", "app.export", str(job_dir.path), export_format, *(["--rehearsal"] if rehearsal else [])]


def offers_of_model(studio: Studio, model_name: str) -> list[Offer]:
    """Return what a model could be written as. Raise NotFound, and what a look at the hub raises."""
    return list_offers(find_config(studio, get_model(studio, model_name)))


def find_licence(job: TrainingJob) -> str:
    """Return the licence that the catalogue knows; empty for a model of one's own."""
    config = MODEL_CONFIGS.get(job.model.model_id)
    return "" if config is None else config.licence


def _read(exports: ExportDir, state: ExportState) -> Exported:
    """Return an export as it is: one whose process is gone has failed."""
    if state.status in ("queued", "running") and not exports.is_under_way(state):
        again = exports.find_state(state.format) or state  # it may have ended between the two looks
        if again.status in ("queued", "running"):
            again = again.model_copy(update={"status": "failed", "phase": None, "error_key": "export_failed.interrupted"})
        state = again
    folder = exports.folder(state.format)
    files = {}
    if state.status == "succeeded" and folder.is_dir():
        files = {file.name: file.stat().st_size for file in sorted(folder.iterdir()) if file.is_file() and not file.is_symlink()}
    return Exported(state, folder, files)
