"""See what a job would take, before anything is spent; and start it."""

from typing import Annotated

from fastapi import APIRouter, Header, Response

from app.api.deps import LanguageDep, StudioDep
from app.api.responses import problems
from app.api.schemas.jobs import StartedRead
from app.api.schemas.plans import PlanRead, PlanRecordRead, StartFinetuningRequest
from app.api.wording import plan_read, plan_record_read, started_read
from app.services import finetuning_service, job_service, planning_service, record_service

router = APIRouter(prefix="/api", tags=["fine-tuning"])


@router.post("/plans", responses=problems(404, 409, 503))
def create_plan(body: StartFinetuningRequest, studio: StudioDep, language: LanguageDep) -> PlanRead:
    """Predict memory and time and resolve every value; starts nothing."""
    return plan_read(studio, planning_service.plan(studio, **body.arguments()), language)


@router.get("/plans/record")
def get_plan_record(studio: StudioDep) -> PlanRecordRead:
    """Compare what was planned with what was measured, for every job that succeeded on this machine."""
    return plan_record_read(record_service.list_records(studio))


@router.post("/start-finetuning", status_code=201, responses=problems(404, 409, 415, 503, 507))
def start_finetuning(
    body: StartFinetuningRequest,
    response: Response,
    studio: StudioDep,
    language: LanguageDep,
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=200)] = None,
) -> StartedRead:
    """Queue a fine-tuning job. With an `Idempotency-Key`, a repeated request answers with the first job."""
    request = job_service.find_or_reserve(studio, idempotency_key, body.model_dump_json())
    row = request.found or finetuning_service.finetune(request.studio, **body.arguments())
    response.headers["Location"] = f"/api/jobs/{row.job_id}"
    return started_read(studio, row, language)
