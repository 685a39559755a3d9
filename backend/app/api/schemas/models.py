"""What the model routes answer."""

from collections.abc import Sequence

from pydantic import BaseModel, Field

from app.contracts.options import Dtype, Objective, Quantization
from app.contracts.plan import Verdict
from app.services.planning_service import AvailableModel, Weights


class ModelRead(BaseModel):
    """One model of the catalogue, with what it means on this machine."""

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
    """The one model that the page chooses at first."""
    preselected_reason: str | None
    params: int | None
    licence: str
    gated: bool
    quantization: Quantization
    context_length: int | None
    weights: Weights
    """`ready`: on this machine; `downloadable`: the hub answers; `unreachable`: neither."""
    download_bytes: int | None
    fit: Verdict
    """At the model's own values, on the best device here."""
    peak_bytes: int
    """Predicted peak at the model's own values."""
    added: bool
    """True for a model of one's own (POST /api/models), which can be removed again."""


class AddModelRequest(BaseModel):
    """Body of POST /api/models."""

    model: str = Field(min_length=1, max_length=600, pattern=r"\S")
    """A hub id such as `org/name`, or the absolute path of a folder inside the allowed roots."""


class ModelList(BaseModel):
    """The catalogue in its order, then the models that were added."""

    models: list[ModelRead]

    @classmethod
    def of(cls, found: Sequence[AvailableModel]) -> "ModelList":
        """Return the answer for what `planning_service.available` found."""
        return cls(models=[ModelRead.model_validate(model, from_attributes=True) for model in found])


class RecommendedPlan(BaseModel):
    """How a model would be trained: the values that memory and time depend on."""

    batch_size: int
    gradient_accumulation_steps: int
    max_length: int
    gradient_checkpointing: bool
    dtype: Dtype
    quantization: Quantization


class RecommendedModel(BaseModel):
    """One model with its place, its plan and its reason."""

    id: str
    name: str
    rank: int
    """From 1, the best first."""
    recommended: bool
    dominated: bool
    """Whether another model that fits is at least as quick and as good, and better in one of the two."""
    dominated_by: str | None
    """Its id."""
    quality: float
    """Percent, comparable between models."""
    quality_source: str
    """Where the number was published, or the rule that it was derived by."""
    quality_rating: int
    """Stars, as in the catalogue."""
    speed_rating: int
    params: int | None
    weights: Weights
    vram_required_gb: float
    seconds_p50: float
    seconds_p90: float
    peak_bytes: int
    peak_bytes_upper: int
    verdict: Verdict
    plan: RecommendedPlan
    reason: str


class RecommendationRead(BaseModel):
    """Every model, the best first, and what they were judged by."""

    objective: Objective
    device_name: str
    memory_bytes: int
    """What a job may use; 1 GB of `vram_gb` is 2**30 bytes, CUDA context included."""
    dataset_id: str | None
    train_rows: int
    models: list[RecommendedModel]
