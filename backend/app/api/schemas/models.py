"""What the model routes answer."""

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, Field

from app.contracts.plan import Verdict
from app.services.planning_service import AvailableModel


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
    quantization: Literal["none", "nf4"]
    context_length: int | None
    weights: Literal["ready", "downloadable", "unreachable"]
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
