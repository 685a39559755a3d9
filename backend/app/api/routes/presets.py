"""Presets by type of task."""

from typing import Annotated

from fastapi import APIRouter, Query

from app.api.deps import LanguageDep, StudioDep
from app.api.responses import problems
from app.api.schemas.presets import PresetList, PresetRead
from app.core.messages import localise
from app.services import preset_service

router = APIRouter(prefix="/api/presets", tags=["fine-tuning"])


@router.get("", responses=problems(404, 503))
def list_presets(
    studio: StudioDep,
    language: LanguageDep,
    dataset_id: Annotated[str, Query(min_length=1, max_length=200)],
    model: Annotated[str, Query(min_length=1, max_length=300)],
) -> PresetList:
    """Propose loss, passes and learning rate for each type of task, for a data set and a model; changes nothing."""
    found = preset_service.list_presets(studio, dataset_id, model)
    return PresetList(
        presets=[
            PresetRead(
                task=preset.task,
                name=localise(f"preset.{preset.task}", language)[0],
                suits=preset.suits,
                usual=preset.usual,
                values=preset.values,
                reasons=[localise(reason.key, language, **reason.params)[0] for reason in preset.reasons],
            )
            for preset in found
        ]
    )
