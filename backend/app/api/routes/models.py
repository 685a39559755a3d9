"""The catalogue and the weights on this machine."""

from typing import Annotated

from fastapi import APIRouter, Query

from app.api.deps import LanguageDep, StudioDep
from app.api.responses import NOT_FOUND, problems
from app.api.schemas.models import AddModelRequest, ModelList, ModelRead, RecommendationRead
from app.api.schemas.system import DownloadRead
from app.api.wording import download_read, recommendation_read
from app.contracts.options import Objective
from app.services import model_service, own_models, planning_service, recommendation_service

router = APIRouter(prefix="/api/models", tags=["models"])


@router.get("/available")
def list_available_models(studio: StudioDep, language: LanguageDep) -> ModelList:
    """List the catalogue with what each model means on this machine."""
    return ModelList.of(planning_service.available(studio, language))


@router.get("/recommended", responses=NOT_FOUND)
def list_recommended_models(
    studio: StudioDep,
    language: LanguageDep,
    vram_gb: Annotated[float | None, Query(gt=0, le=4096, allow_inf_nan=False)] = None,
    dataset_id: Annotated[str | None, Query(max_length=200)] = None,
    objective: Objective | None = None,
) -> RecommendationRead:
    """Rank every model for this machine, or for a card of `vram_gb` (2**30 bytes each), for a data set and an objective."""
    ranking = recommendation_service.rank_models(studio, vram_gb=vram_gb, dataset_id=dataset_id, objective=objective)
    return recommendation_read(ranking, language)


@router.post("", status_code=201, responses=problems(404, 409, 415, 503))
def add_model(body: AddModelRequest, studio: StudioDep, language: LanguageDep) -> ModelRead:
    """Add a model of the hub or a folder: its configuration is computed from config.json alone, before any weight is fetched."""
    added = model_service.add_model(studio, body.model)
    return ModelRead.model_validate(planning_service.describe_added(studio, added, language), from_attributes=True)


@router.delete("/{model_id:path}", status_code=204, responses=problems(404, 409))
def remove_model(model_id: str, studio: StudioDep) -> None:
    """Take an added model off the list, unless an unfinished job uses it. Its weights stay, and so do its ended jobs."""
    own_models.remove_model(studio, model_id)


@router.post("/{model_id:path}/download", status_code=202, responses=problems(404, 409, 503))
def start_download(model_id: str, studio: StudioDep, language: LanguageDep) -> DownloadRead:
    """Bring the weights of a model to this machine in the background. Asking twice starts one download."""
    return download_read(model_service.start_download(studio, model_id), language)


@router.get("/{model_id:path}/download", responses=NOT_FOUND)
def get_download(model_id: str, studio: StudioDep, language: LanguageDep) -> DownloadRead:
    """Say how far a download has come."""
    return download_read(model_service.get_download(studio, model_id), language)
