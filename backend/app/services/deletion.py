"""Delete a job, or an export of it, unless somebody makes, sends or trains it."""

import shutil

from sqlalchemy.orm import Session

from app.contracts.export import ExportFormat
from app.contracts.status import JobStatus
from app.core.errors import Conflict
from app.services import job_service
from app.services.export_service import get_export
from app.services.pushes import find_running
from app.services.studio import Studio
from app.storage.export_dir import ExportBusy, ExportDir
from app.storage.repositories import Jobs


def delete_job(studio: Studio, job_id: str) -> None:
    """Delete a job that has ended, with its folder.

    Raise NotFound, or Conflict while it is in the queue or runs, or while an export of it is being made or sent.
    """
    trash = studio.settings.data_dir / "tmp" / f"deleted-{job_id}"
    with studio.database.writing() as session:  # whoever starts an export waits for this lock
        row, job_dir = job_service.lock_here(studio, session, job_id)
        if not JobStatus(row.status).terminal:
            raise Conflict("job_active", job_id=job_id, status=row.status)
        made = ExportDir(job_dir.path).find_under_way()
        if made is not None:
            raise Conflict("job_exporting", job_id=job_id, format=made)
        sent = find_running(job_dir.path)
        if sent is not None:
            raise Conflict("job_sending", job_id=job_id, repo_id=sent.repo_id)
        if job_dir.path.exists():
            job_dir.path.rename(trash)  # first: a row without a folder can be deleted again, a folder alone would come back
        Jobs(session).delete(row)
    shutil.rmtree(trash, ignore_errors=True)
    studio.broker.wake(job_id)


def delete_export(studio: Studio, session: Session, job_id: str, export_format: ExportFormat) -> None:
    """Delete an export's files. Raise NotFound, or Conflict while it is made or sent."""
    get_export(studio, session, job_id, export_format)
    job_path = studio.job_dir(job_id).path
    sent = find_running(job_path, export_format)
    if sent is not None:
        raise Conflict("job_sending", job_id=job_id, repo_id=sent.repo_id)
    try:
        ExportDir(job_path).delete(export_format)
    except ExportBusy:
        raise Conflict("export_running") from None
