"""The report of a job as JSON and as one HTML file that needs nothing else; its capsule."""

from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi.responses import HTMLResponse

from app.api.deps import LanguageDep, SessionDep, StudioDep
from app.api.report_page import POLICY, render_report
from app.api.report_wording import report_read
from app.api.responses import NOT_FOUND, problems
from app.api.schemas.reports import ReportRead
from app.contracts.capsule import Capsule
from app.core.messages import Language
from app.services import capsule_service, report_service

router = APIRouter(prefix="/api/jobs/{job_id}", tags=["reports"])


@router.get("/report", responses=problems(404, 409))
def get_report(job_id: str, session: SessionDep, studio: StudioDep, language: LanguageDep) -> ReportRead:
    """Compare before and after on rows that training never saw."""
    found = report_service.get_report(studio, session, job_id)
    return report_read(found.report, found.comparison, language)


@router.get("/report.html", responses=problems(404, 409), response_class=HTMLResponse)
def get_report_page(
    job_id: str,
    session: SessionDep,
    studio: StudioDep,
    asked: LanguageDep,
    language: Annotated[Language | None, Query(description="Overrides Accept-Language, for a plain link.")] = None,
) -> HTMLResponse:
    """Return the same as one file to keep or to send. No script can run in it."""
    chosen = language or asked
    found = report_service.get_report(studio, session, job_id)
    shown = report_read(found.report, found.comparison, chosen)
    page = render_report(found.job, shown, report_service.list_events(studio, job_id), chosen)
    headers = {
        "Content-Security-Policy": POLICY,
        "Content-Disposition": f'inline; filename="report-{job_id}.html"',
        "Content-Language": chosen,
    }
    return HTMLResponse(page, headers=headers)


@router.get("/capsule", responses=NOT_FOUND)
def get_capsule(job_id: str, session: SessionDep, studio: StudioDep, response: Response) -> Capsule:
    """Return one file by which the job can be told, compared and repeated; it holds no text of the data."""
    capsule = capsule_service.make_capsule(studio, session, job_id)
    # now it is known that there is such a job: any other name may hold what no header can
    response.headers["Content-Disposition"] = f'attachment; filename="capsule-{job_id}.json"'
    return capsule
