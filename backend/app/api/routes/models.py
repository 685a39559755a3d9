"""The catalogue and the weights on this machine."""

from dataclasses import asdict

from fastapi import APIRouter

from app.api.deps import LanguageDep, StudioDep
from app.api.responses import NOT_FOUND, problems
from app.api.schemas.models import AddModelRequest, ModelList, ModelRead
from app.api.schemas.system import DownloadRead
from app.api.wording import download_read
from app.services import model_service, own_models, planning_service

router = APIRouter(prefix="/api/models", tags=["models"])


@router.get("/available")
def list_available_models(studio: StudioDep, language: LanguageDep) -> ModelList:
    """List the catalogue with what each model means on this machine."""
    entries = planning_service.available(studio, language)
    return ModelList(models=[ModelRead.model_validate(asdict(entry)) for entry in entries])


@router.post("", status_code=201, responses=problems(404, 409, 415, 503))
def add_model(body: AddModelRequest, studio: StudioDep, language: LanguageDep) -> ModelRead:
    """Add a model of the hub or a folder: its configuration is computed from config.json alone, before any weight is fetched."""
    added = model_service.add_model(studio, body.model)
    return ModelRead.model_validate(asdict(planning_service.describe_added(studio, added, language)))


@router.delete("/{model_id:path}", status_code=204, responses=NOT_FOUND)
def remove_model(model_id: str, studio: StudioDep) -> None:
    """Take an added model off the list. Its weights stay, and so do its jobs."""
    own_models.remove_model(studio, model_id)


@router.post("/{model_id:path}/download", status_code=202, responses=problems(404, 409, 503))
def start_download(model_id: str, studio: StudioDep, language: LanguageDep) -> DownloadRead:
    """Bring the weights of a model to this machine in the background. Asking twice starts one download."""
    return download_read(model_service.start_download(studio, model_id), language)


@router.get("/{model_id:path}/download", responses=NOT_FOUND)
def get_download(model_id: str, studio: StudioDep, language: LanguageDep) -> DownloadRead:
    """Say how far a download has come."""
    return download_read(model_service.get_download(studio, model_id), language)
