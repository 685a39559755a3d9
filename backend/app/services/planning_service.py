"""Plans before a start, and what each model of the catalogue means on this machine. Starts nothing."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

from app.contracts.hardware import Device
from app.contracts.job import ResumeFrom
from app.contracts.options import FinetuningOptions, Quantization
from app.contracts.plan import Notice, Plan, Verdict
from app.core.messages import Language, localise
from app.planner.run_shape import RowLengths
from app.services.finetuning_service import MODEL_CONFIGS, get_model
from app.services.own_models import list_added
from app.services.resolution import resolve_values
from app.services.run_plan import FoundModel, count_available, find_catalogue_shape, find_config, make_plan_request, plan_run
from app.services.studio import Studio
from app.services.traced_plan import make_known_plan
from app.storage.hub_config import hub_reach
from app.storage.model_store import is_folder_id

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
    added: bool
    """Whether a person added it (POST /api/models)."""


def plan(
    studio: Studio,
    dataset_id: str,
    model_name: str,
    *,
    device_id: str | None = None,
    continue_from: str | None = None,
    exports: object = (),  # noqa: ARG001  a start takes it too; it changes nothing of the plan
    name: str | None = None,  # noqa: ARG001  accepted so that one request serves both; so are the next four
    resume_from: ResumeFrom | None = None,  # noqa: ARG001
    checkpoint_every_steps: int | None = None,  # noqa: ARG001
    checkpoint_every_seconds: float | None = None,  # noqa: ARG001
    checkpoints_kept: int | None = None,  # noqa: ARG001
    checkpoints_bytes: int | None = None,  # noqa: ARG001
    **options: Any,
) -> Plan:
    """Return what a job with these arguments would take; the arguments are those of `finetune`.

    Weights are not needed, so that a model can be judged before it is downloaded. `name` changes nothing.
    Raise Invalid, NotFound (data set, model, device); for a model outside the catalogue also what the hub answers.
    """
    model = partial(get_model, studio, model_name)
    return plan_run(studio, dataset_id, model, device_id=device_id, continue_from=continue_from, options=options).plan


def available(studio: Studio, language: Language) -> list[AvailableModel]:
    """Return the catalogue in its order, then the models that were added, with weights, fit and the one chosen at first."""
    device = studio.hardware().best
    available_bytes = count_available(device)
    found = [
        describe(studio, model, language, device, available_bytes, added=model.model_id not in MODEL_CONFIGS)
        for model in list_models(studio)
    ]
    return _preselect(found, language)


def list_models(studio: Studio) -> list[FoundModel]:
    """Return the catalogue in its order, then the models that were added."""
    models = [FoundModel(id_, entry, find_catalogue_shape(studio, entry)) for id_, entry in MODEL_CONFIGS.items()]
    return models + [model for model in list_added(studio) if model.model_id not in MODEL_CONFIGS]


def find_weights(studio: Studio, model_name: str) -> Weights:
    """Return whether the weights of a model are here or can be had. The hub is asked once a minute at most."""
    if studio.models.obtainable_offline(model_name):
        return "ready"
    return "downloadable" if not is_folder_id(model_name) and hub_reach.answers() else "unreachable"


def describe(  # noqa: PLR0917
    studio: Studio, model: FoundModel, language: Language, device: Device, available_bytes: int, added: bool = False
) -> AvailableModel:
    """Return what a model means on `device`: its plan is made at its own values."""
    entry, shape = model.entry, model.shape
    request = make_plan_request(
        studio,
        model,
        device,
        resolve_values(FinetuningOptions(), entry),
        RowLengths((entry.max_length,) * 21, measured=True),
        available_bytes=available_bytes,
        train_rows=EXAMPLE_ROWS,
        heldout_rows=0,
    )
    judged = make_known_plan(studio.tracing, request, find_config(studio, model))
    weights = find_weights(studio, entry.name)
    return AvailableModel(
        id=model.model_id,
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
        added=added,
    )


def describe_added(studio: Studio, model: FoundModel, language: Language) -> AvailableModel:
    """Return what a model that was just added means on this machine's best device."""
    device = studio.hardware().best
    return describe(studio, model, language, device, count_available(device), added=True)


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
