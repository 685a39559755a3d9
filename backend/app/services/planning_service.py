"""Plans before a start, and what each model of the catalogue means on this machine. Starts nothing."""

from dataclasses import dataclass, replace
from typing import Any, Literal

from app.contracts.hardware import Device
from app.contracts.options import FinetuningOptions, Quantization
from app.contracts.plan import Notice, Plan, Verdict
from app.core.messages import Language, localise
from app.planner.run_shape import RowLengths
from app.services.finetuning_service import MODEL_CONFIGS, get_model
from app.services.model_config import ModelConfig
from app.services.resolution import resolve_values
from app.services.run_plan import FoundModel, count_available, find_catalogue_shape, make_run_plan, plan_run
from app.services.studio import Studio
from app.storage.hub_config import hub_reach

Weights = Literal["ready", "downloadable", "unreachable"]

EXAMPLE_ROWS = 1000
"""Rows of the data set that the list of models is planned with; memory hardly depends on it."""


@dataclass(frozen=True)
class AvailableModel:
    """One model of the catalogue on this machine; the fields are those of the API's ModelRead."""

    id: str
    name: str
    vram_required_gb: float
    quality_rating: int
    speed_rating: int
    batch_size: int
    max_length: int
    learning_rate: float
    description: str
    lora_rank: int
    lora_alpha: int
    gradient_accumulation_steps: int
    target_modules: list[str]
    is_default: bool
    preselected: bool
    preselected_reason: str | None
    params: int | None
    licence: str
    gated: bool
    quantization: Quantization
    context_length: int | None
    weights: Weights
    download_bytes: int | None
    fit: Verdict
    peak_bytes: int


def plan(
    studio: Studio,
    dataset_id: str,
    model_name: str,
    *,
    device_id: str | None = None,
    name: str | None = None,  # noqa: ARG001  accepted so that one request serves both
    **options: Any,
) -> Plan:
    """Return what a job with these arguments would take; the arguments are those of `finetune`.

    Weights are not needed, so that a model can be judged before it is downloaded. `name` changes nothing.
    Raise Invalid, NotFound (data set, model, device); for a model outside the catalogue also what the hub answers.
    """
    return plan_run(studio, dataset_id, lambda: get_model(studio, model_name), device_id=device_id, options=options).plan


def available(studio: Studio, language: Language) -> list[AvailableModel]:
    """Return the catalogue in its order, with weights, fit and the one model that is chosen at first."""
    device = studio.hardware().best
    available_bytes = count_available(device)
    reachable: bool | None = None
    found: list[AvailableModel] = []
    for model_id, entry in MODEL_CONFIGS.items():
        ready = studio.models.obtainable_offline(entry.name)
        if not ready and reachable is None:
            reachable = hub_reach.answers()
        weights: Weights = "ready" if ready else "downloadable" if reachable else "unreachable"
        found.append(_describe(studio, model_id, entry, weights, language, device, available_bytes))
    return _preselect(found, language)


def _describe(  # noqa: PLR0917
    studio: Studio,
    model_id: str,
    entry: ModelConfig,
    weights: Weights,
    language: Language,
    device: Device,
    available_bytes: int,
) -> AvailableModel:
    shape = find_catalogue_shape(studio, entry)
    judged = make_run_plan(
        FoundModel(model_id, entry, shape),
        device,
        resolve_values(FinetuningOptions(), entry),
        RowLengths((entry.max_length,) * 21, measured=True),
        available_bytes=available_bytes,
        train_rows=EXAMPLE_ROWS,
        heldout_rows=0,
    )
    return AvailableModel(
        id=model_id,
        name=entry.display_name,
        vram_required_gb=entry.vram_required_gb,
        quality_rating=entry.quality_rating,
        speed_rating=entry.speed_rating,
        batch_size=entry.batch_size,
        max_length=entry.max_length,
        learning_rate=entry.learning_rate,
        description=entry.describe(language),
        lora_rank=entry.lora_rank,
        lora_alpha=entry.lora_alpha,
        gradient_accumulation_steps=entry.gradient_accumulation_steps,
        target_modules=entry.target_modules,
        is_default=entry.is_default,
        preselected=False,
        preselected_reason=None,
        params=shape.params if shape else None,
        licence=entry.licence,
        gated=entry.gated,
        quantization=entry.quantization,
        context_length=shape.context if shape else None,
        weights=weights,
        # GPT-2's files are in 32 bits, all others of the catalogue in 16.
        download_bytes=shape.params * (4 if shape.family == "gpt2" else 2) if shape and weights != "ready" else None,
        fit=judged.verdict,
        peak_bytes=judged.peak_bytes,
    )


def _preselect(models: list[AvailableModel], language: Language) -> list[AvailableModel]:
    """Mark the default model if its weights can be had, else the best one that is ready and fits."""
    if not models:
        return models
    default = next((model for model in models if model.is_default), models[0])
    ready = [model for model in models if model.weights == "ready"]
    if default.weights != "unreachable":
        chosen, reason = default, Notice(key="preselected.default")
    elif ready:
        chosen = max(ready, key=lambda model: (model.fit != "does_not_fit", model.quality_rating, model.speed_rating))
        reason = Notice(key="preselected.ready", params={"default": default.name})
    else:
        chosen, reason = default, Notice(key="preselected.nothing_ready")
    sentence = localise(reason.key, language, **reason.params)[0]
    return [replace(model, preselected=True, preselected_reason=sentence) if model is chosen else model for model in models]
