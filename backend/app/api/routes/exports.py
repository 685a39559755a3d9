"""Exports of a job: make, list, read, fetch, delete."""

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import FileResponse

from app.api.deps import LanguageDep, SessionDep, StudioDep
from app.api.export_wording import export_list, export_read, offer_read
from app.api.responses import NOT_FOUND, problems
from app.api.schemas.exports import ExportList, ExportRead, OfferList, PushRequest, StartExportRequest
from app.contracts.export import ExportFormat
from app.services import deletion, export_service
from app.services.pushes import start_push

router = APIRouter(prefix="/api/jobs/{job_id}/exports", tags=["exports"])


offers = APIRouter(prefix="/api/exports", tags=["exports"])


@offers.get("/offers", responses=problems(404, 503))
def list_offers(
    model_name: Annotated[str, Query(min_length=1, max_length=300)], studio: StudioDep, language: LanguageDep
) -> OfferList:
    """List every format with whether this model can become it: asked before a training."""
    return OfferList(offers=[offer_read(offer, language) for offer in export_service.offers_of_model(studio, model_name)])


@router.post("", status_code=202, responses=problems(404, 409, 415))
def start_export(job_id: str, body: StartExportRequest, studio: StudioDep, language: LanguageDep) -> ExportRead:
    """Make an export in the background. It is loaded back and compared with the trained model before it counts."""
    return export_read(export_service.start_export(studio, job_id, body.format), language)


@router.get("", responses=NOT_FOUND)
def list_exports(job_id: str, studio: StudioDep, session: SessionDep, language: LanguageDep) -> ExportList:
    """List the exports of a job, and every format with whether this model can become it."""
    return export_list(*export_service.list_exports(studio, session, job_id), language)


@router.get("/{export_format}", responses=NOT_FOUND)
def get_export(
    job_id: str, export_format: ExportFormat, studio: StudioDep, session: SessionDep, language: LanguageDep
) -> ExportRead:
    """Read one export with its certificate and its files."""
    return export_read(export_service.get_export(studio, session, job_id, export_format), language)


@router.get("/{export_format}/files/{name}", responses=NOT_FOUND, response_class=FileResponse)
def get_export_file(job_id: str, export_format: ExportFormat, name: str, studio: StudioDep, session: SessionDep) -> FileResponse:
    """Fetch one file of a finished export."""
    path = export_service.get_file(studio, session, job_id, export_format, name)
    return FileResponse(path, media_type="application/octet-stream", filename=name, headers={"X-Content-Type-Options": "nosniff"})


@router.post("/{export_format}/push", status_code=202, responses=problems(404, 409, 503))
def push_export(  # noqa: PLR0917  # FastAPI calls it by name
    job_id: str, export_format: ExportFormat, body: PushRequest, studio: StudioDep, session: SessionDep, language: LanguageDep
) -> ExportRead:
    """Send a finished export to the hub in the background; `push` of the export says how that stands."""
    exported = export_service.get_finished(studio, session, job_id, export_format)
    start_push(studio.job_dir(job_id).path, exported, body.repo_id, private=body.private)
    return export_read(exported, language)


@router.delete("/{export_format}", status_code=204, responses=problems(404, 409))
def delete_export(job_id: str, export_format: ExportFormat, studio: StudioDep, session: SessionDep) -> None:
    """Delete an export and its files; the job and its adapter stay."""
    deletion.delete_export(studio, session, job_id, export_format)
