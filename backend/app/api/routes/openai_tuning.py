"""/v1/fine_tuning/jobs: as OpenAI's clients speak."""

from typing import Annotated

from fastapi import APIRouter, Header, Query, Request

from app.api.deps import LanguageDep, SessionDep, StudioDep
from app.api.openai_wording import event_id, find_start, page, tuning_checkpoints, tuning_event, tuning_job, unknown_cursor
from app.api.responses import OPENAI_PROBLEMS
from app.api.schemas.openai_tuning import CreateTuningJob, Page, TuningCheckpoint, TuningEvent, TuningJob
from app.core.errors import Invalid
from app.services import job_control, job_service, openai_jobs
from app.storage.repositories import Events, Jobs

router = APIRouter(prefix="/v1/fine_tuning/jobs", tags=["OpenAI-compatible"], responses=OPENAI_PROBLEMS)
Limit = Annotated[int, Query(ge=1, le=100)]
After = Annotated[str | None, Query(max_length=200)]


@router.post("")
def create_tuning_job(
    body: CreateTuningJob,
    studio: StudioDep,
    language: LanguageDep,
    x_stainless_retry_count: Annotated[int, Header(ge=0, include_in_schema=False)] = 0,
) -> TuningJob:
    """Queue a job. A client that repeats a request because its answer was lost gets the job of the first one."""
    row = openai_jobs.create_job(studio, body.wanted(), repeated=x_stainless_retry_count > 0)
    return tuning_job(studio, row, language)


@router.get("")
def list_tuning_jobs(  # noqa: PLR0917  # FastAPI calls it by name
    request: Request, studio: StudioDep, session: SessionDep, language: LanguageDep, limit: Limit = 20, after: After = None
) -> Page[TuningJob]:
    """List jobs, newest first."""
    if any(name.startswith("metadata") for name in request.query_params):
        raise Invalid("metadata_filter")
    if after is not None and Jobs(session).find(after) is None:
        raise unknown_cursor(after)
    rows = job_service.list_jobs(session, limit=limit + 1, after=after)
    return page([tuning_job(studio, row, language) for row in rows], [row.job_id for row in rows], limit)


@router.get("/{job_id}")
def get_tuning_job(job_id: str, studio: StudioDep, session: SessionDep, language: LanguageDep) -> TuningJob:
    """Read one job."""
    return tuning_job(studio, job_service.get_job(session, job_id), language)


@router.post("/{job_id}/cancel")
def cancel_tuning_job(job_id: str, studio: StudioDep, language: LanguageDep) -> TuningJob:
    """Stop a job."""
    return tuning_job(studio, job_service.cancel(studio, job_id), language)


@router.post("/{job_id}/pause")
def pause_tuning_job(job_id: str, studio: StudioDep, language: LanguageDep) -> TuningJob:
    """Stop a job at a checkpoint."""
    return tuning_job(studio, job_control.pause(studio, job_id), language)


@router.post("/{job_id}/resume")
def resume_tuning_job(job_id: str, studio: StudioDep, language: LanguageDep) -> TuningJob:
    """Put a paused job back into the queue."""
    return tuning_job(studio, job_control.resume(studio, job_id), language)


@router.get("/{job_id}/events")
def list_tuning_events(  # noqa: PLR0917  # FastAPI calls it by name
    job_id: str, studio: StudioDep, session: SessionDep, language: LanguageDep, limit: Limit = 20, after: After = None
) -> Page[TuningEvent]:
    """List what happened to a job, newest first."""
    row = job_service.get_job(session, job_id)
    before = None
    if after is not None:
        number = after.removeprefix(f"ftevent-{job_id}-")
        if not number.isdecimal():
            raise Invalid("event_id", event=after)
        before = int(number)
    found = Events(session).newest(job_id, limit + 1, before)
    return page([tuning_event(studio, row, event, language) for event in found], [event_id(event) for event in found], limit)


@router.get("/{job_id}/checkpoints")
def list_tuning_checkpoints(
    job_id: str, studio: StudioDep, session: SessionDep, limit: Limit = 10, after: After = None
) -> Page[TuningCheckpoint]:
    """List the checkpoints that can be asked, newest first."""
    found = tuning_checkpoints(studio, session, job_service.get_job(session, job_id))
    ids = [checkpoint.id for checkpoint in found]
    start = find_start(ids, after)
    return page(found[start:], ids[start:], limit)
