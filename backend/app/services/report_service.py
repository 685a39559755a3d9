"""The report of a finished job: what training changed on rows that it never saw."""

from dataclasses import dataclass

from sqlalchemy.orm import Session

from app.contracts.comparison import Comparison
from app.contracts.events import JobEvent
from app.contracts.job import TrainingJob
from app.contracts.report import Report
from app.core.errors import Conflict
from app.services import job_service
from app.services.studio import Studio


@dataclass(frozen=True)
class FoundReport:
    """Everything that a report is written from."""

    job: TrainingJob
    report: Report
    comparison: Comparison | None


def get_report(studio: Studio, session: Session, job_id: str) -> FoundReport:
    """Return before and after. Raise NotFound; Conflict while there is none."""
    row, folder = job_service.get_here(studio, session, job_id)
    report = folder.find_report()
    if report is None:
        raise Conflict("no_report", job_id=job_id, status=row.status)
    return FoundReport(TrainingJob.model_validate_json(row.spec), report, folder.find_comparison())


def list_events(studio: Studio, job_id: str) -> list[JobEvent]:
    """Return what happened to a job, in order, as its folder tells it."""
    return list(studio.job_dir(job_id).read_events())
