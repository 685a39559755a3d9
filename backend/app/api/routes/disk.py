"""The disk: what takes it, and deleting what can go without harm."""

from dataclasses import asdict

from fastapi import APIRouter

from app.api.deps import SessionDep, StudioDep
from app.api.responses import problems
from app.api.schemas.disk import DiskRead
from app.services import disk_service

router = APIRouter(prefix="/api", tags=["disk"])


@router.get("/disk")
def get_disk(studio: StudioDep, session: SessionDep) -> DiskRead:
    """Say what models, data sets, jobs, checkpoints and exports take."""
    return DiskRead.model_validate(asdict(disk_service.measure(studio, session)))


@router.delete("/disk/models/{model_id:path}", status_code=204, responses=problems(404, 409))
def delete_weights(model_id: str, studio: StudioDep) -> None:
    """Delete the weights of a model; a conflict while a job or an export needs them. They come back by themselves when needed."""
    disk_service.delete_weights(studio, model_id)


@router.delete("/jobs/{job_id}/checkpoints", status_code=204, responses=problems(404, 409))
def delete_checkpoints(job_id: str, studio: StudioDep, session: SessionDep) -> None:
    """Delete the checkpoints of a job that has ended. Its adapter and its report stay; it cannot be resumed any more."""
    disk_service.delete_checkpoints(studio, session, job_id)
