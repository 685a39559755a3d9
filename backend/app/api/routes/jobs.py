"""Jobs: list, read, follow, pause, resume, cancel, delete."""

from dataclasses import asdict
from typing import Annotated, Literal

from fastapi import APIRouter, Header, Query, Request, Response

from app.api.deps import LanguageDep, SessionDep, StudioDep
from app.api.job_lines import JobLines
from app.api.responses import NOT_FOUND, EventStream, problems, streamed
from app.api.schemas.jobs import (
    CheckpointList,
    CheckpointRead,
    JobDetail,
    JobList,
    JobRead,
    LogRead,
    MetricPoints,
    PriorityRequest,
)
from app.api.wording import job_detail, job_read
from app.contracts.events import JobEvent
from app.contracts.status import JobStatus
from app.core.errors import NotFound
from app.services import deletion, job_control, job_service

router = APIRouter(prefix="/api/jobs", tags=["jobs"])

MetricName = Literal["loss", "heldout_loss", "learning_rate", "grad_norm", "tokens_per_second", "peak_bytes", "step_seconds"]

LAST_SEQ = 2**31 - 1
"""No event has a higher number: both databases keep it in 32 bits."""


@router.get("", response_model=JobList)
def list_jobs(  # noqa: PLR0917  # FastAPI calls it by name
    request: Request,
    studio: StudioDep,
    session: SessionDep,
    language: LanguageDep,
    limit: Annotated[int, Query(ge=1, le=200)] = 100,
    after: Annotated[str | None, Query(max_length=100)] = None,
    status: JobStatus | None = None,
) -> Response:
    """List jobs, newest first; `after` is the last job id of the page before."""
    lines: JobLines = request.app.state.job_lines
    found = lines.render(studio, session, language, limit=limit, after=after, status=status)
    return Response(found, media_type="application/json")


@router.get("/{job_id}", responses=NOT_FOUND)
def get_job(job_id: str, studio: StudioDep, session: SessionDep, language: LanguageDep) -> JobDetail:
    """Read one job with its plan and the commands that start it again."""
    return job_detail(studio, session, job_service.get_job(session, job_id), language)


@router.get("/{job_id}/events", response_class=EventStream, responses=streamed(JobEvent) | NOT_FOUND)
async def stream_job_events(
    job_id: str,
    studio: StudioDep,
    after: Annotated[int, Query(ge=0, le=LAST_SEQ)] = 0,
    last_event_id: Annotated[str | None, Header()] = None,
) -> EventStream:
    """Send what was missed, then follow the job until it ends. `id:` is the event's seq.

    It begins after `Last-Event-ID` (a browser that reconnects), else after `?after=`.
    """
    if not await studio.broker.exists(studio.database, job_id):
        raise NotFound("job", job_id=job_id)  # before the stream begins
    position = min(int(last_event_id[:20]), LAST_SEQ) if last_event_id and last_event_id.isdecimal() else after
    # The broker's bytes go out as they are: FastAPI's own event streams make each event anew for each of its readers.
    pieces = studio.broker.follow(studio.database, job_id, position)
    return EventStream(pieces, headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})


@router.get("/{job_id}/metrics", responses=NOT_FOUND)
def get_metrics(
    job_id: str, session: SessionDep, name: MetricName = "loss", points: Annotated[int, Query(ge=2, le=5000)] = 500
) -> MetricPoints:
    """Return the history of one number, down-sampled to `points` values with the first and the last kept."""
    steps, values = job_service.metrics(session, job_id, name, points)
    return MetricPoints(name=name, steps=steps, values=values)


@router.post("/{job_id}/cancel", responses=problems(404, 409))
def cancel_job(job_id: str, studio: StudioDep, language: LanguageDep) -> JobRead:
    """Stop a job. Repeating it changes nothing; a job that has ended otherwise is a conflict."""
    return job_read(studio, job_service.cancel(studio, job_id), language)


@router.post("/{job_id}/pause", responses=problems(404, 409))
def pause_job(job_id: str, studio: StudioDep, language: LanguageDep) -> JobRead:
    """Stop a job at a checkpoint. Repeating it changes nothing; a job that waits or has ended is a conflict."""
    return job_read(studio, job_control.pause(studio, job_id), language)


@router.post("/{job_id}/resume", responses=problems(404, 409))
def resume_job(job_id: str, studio: StudioDep, language: LanguageDep) -> JobRead:
    """Put a paused job back into the queue. A failed or cancelled one is continued by a new job with `resume_from`."""
    return job_read(studio, job_control.resume(studio, job_id), language)


@router.put("/{job_id}/priority", responses=problems(404, 409))
def set_job_priority(job_id: str, body: PriorityRequest, studio: StudioDep, language: LanguageDep) -> JobRead:
    """Let a job start earlier or later than others that wait. A job that has ended is a conflict."""
    return job_read(studio, job_control.prioritise(studio, job_id, body.priority), language)


@router.get("/{job_id}/checkpoints", responses=NOT_FOUND)
def list_checkpoints(job_id: str, session: SessionDep, studio: StudioDep) -> CheckpointList:
    """List what can be resumed from, newest first."""
    found = job_control.list_job_checkpoints(studio, session, job_id)
    return CheckpointList(checkpoints=[CheckpointRead(**asdict(checkpoint)) for checkpoint in found])


@router.get("/{job_id}/logs", responses=NOT_FOUND)
def get_logs(
    job_id: str, session: SessionDep, studio: StudioDep, max_bytes: Annotated[int, Query(ge=1, le=1 << 20)] = 65536
) -> LogRead:
    """Return the end of the trainer's log."""
    text, truncated = job_service.read_log(studio, session, job_id, max_bytes)
    return LogRead(text=text, truncated=truncated)


@router.delete("/{job_id}", status_code=204, responses=problems(404, 409))
def delete_job(job_id: str, studio: StudioDep) -> None:
    """Delete a job that has ended, with its folder and adapter."""
    deletion.delete_job(studio, job_id)
