"""Files and fine-tuning jobs as OpenAI's clients send and read them (API reference: Files, Fine-tuning)."""

from typing import Annotated, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from app.contracts.options import Method
from app.services.openai_jobs import Wanted

T = TypeVar("T")
Auto = Literal["auto"]
Status = Literal["validating_files", "queued", "running", "succeeded", "failed", "cancelled"]


class Hyperparameters(BaseModel):
    """What may be chosen; `auto` or nothing = as this house chooses."""

    model_config = ConfigDict(extra="forbid")

    n_epochs: Auto | Annotated[int, Field(ge=1, le=1000)] | None = None
    batch_size: Auto | Annotated[int, Field(ge=1, le=1024)] | None = None
    """Rows an optimizer step sees."""
    learning_rate_multiplier: Auto | Annotated[float, Field(gt=0, le=1000)] | None = None
    """Times the learning rate that would be chosen."""


class DpoHyperparameters(Hyperparameters):
    """Those of learning from pairs."""

    beta: Auto | Annotated[float, Field(gt=0, le=10)] | None = None


class Supervised(BaseModel):
    """Learning from answers."""

    model_config = ConfigDict(extra="forbid")

    hyperparameters: Hyperparameters | None = None


class Dpo(BaseModel):
    """Learning from a preferred answer and another one."""

    model_config = ConfigDict(extra="forbid")

    hyperparameters: DpoHyperparameters | None = None


class TuningMethod(BaseModel):
    """How the rows are learned. `reinforcement` does not exist here."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["supervised", "dpo"]
    supervised: Supervised | None = None
    dpo: Dpo | None = None
    reinforcement: Annotated[None, Field(exclude=True)] = None

    @field_validator("supervised", "dpo")
    @classmethod
    def _belongs_to_type(cls, value: Supervised | Dpo | None, known: ValidationInfo) -> Supervised | Dpo | None:
        if value is not None and "type" in known.data and known.data["type"] != known.field_name:
            raise PydanticCustomError("other_method", "belongs to another `type`")
        return value

    def find_chosen(self) -> Hyperparameters | None:
        """Return the hyperparameters of the type that was named, if any."""
        part = self.dpo if self.type == "dpo" else self.supervised
        return part.hyperparameters if part is not None else None


class CreateTuningJob(BaseModel):
    """Body of POST /v1/fine_tuning/jobs."""

    model_config = ConfigDict(extra="forbid")

    model: str = Field(min_length=1, max_length=600)
    training_file: str = Field(min_length=1, max_length=200)
    validation_file: str | None = Field(default=None, min_length=1, max_length=200)
    hyperparameters: Hyperparameters | None = None
    """The older place; they go for any type of `method`."""
    method: TuningMethod | None = None
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    suffix: str | None = Field(default=None, max_length=64)
    metadata: (
        Annotated[
            dict[Annotated[str, StringConstraints(max_length=64)], Annotated[str, StringConstraints(max_length=512)]],
            Field(max_length=16),
        ]
        | None
    ) = None
    integrations: list[object] | None = Field(default=None, max_length=0)
    """Not supported: only an empty list is taken."""

    @field_validator("method")
    @classmethod
    def _agrees_with_the_older_place(cls, value: TuningMethod | None, known: ValidationInfo) -> TuningMethod | None:
        older: Hyperparameters | None = known.data.get("hyperparameters")
        newer = value.find_chosen() if value is not None else None
        if older is not None and newer is not None and any(getattr(newer, name) != chosen for name, chosen in older):
            raise PydanticCustomError("two_places", "says otherwise than `hyperparameters`")
        return value

    def wanted(self) -> Wanted:
        """Return the same in this house's terms."""
        asked = (self.method.find_chosen() if self.method is not None else None) or self.hyperparameters or Hyperparameters()
        methods: dict[str, Method] = {"supervised": "sft", "dpo": "dpo"}
        return Wanted(
            model=self.model,
            training_file=self.training_file,
            validation_file=self.validation_file,
            method=methods[self.method.type] if self.method is not None else None,
            num_epochs=_number(asked.n_epochs),
            batch_size=_number(asked.batch_size),
            learning_rate_multiplier=_number(asked.learning_rate_multiplier),
            beta=_number(asked.beta) if isinstance(asked, DpoHyperparameters) else None,
            seed=self.seed,
            suffix=self.suffix or "",
            metadata=self.metadata,
        )


N = TypeVar("N", int, float)


def _number(value: Auto | N | None) -> N | None:
    return None if value is None or isinstance(value, str) else value


class Page(BaseModel, Generic[T]):
    """A part of a list."""

    object: Literal["list"] = "list"
    data: list[T]
    first_id: str | None
    last_id: str | None
    has_more: bool


class TuningError(BaseModel):
    """Why a job failed."""

    code: str
    message: str
    param: str | None = None


class TuningJob(BaseModel):
    """A fine-tuning job."""

    id: str
    object: Literal["fine_tuning.job"] = "fine_tuning.job"
    created_at: int
    finished_at: int | None
    estimated_finish: int | None
    status: Status
    """`starting` and `paused` are told as `queued`, `pausing` and `cancelling` as `running`: the interface has no other words."""
    model: str
    fine_tuned_model: str | None
    organization_id: str
    training_file: str
    validation_file: str | None
    result_files: list[str]
    seed: int
    trained_tokens: int | None
    hyperparameters: Hyperparameters
    method: TuningMethod
    error: TuningError | None
    metadata: dict[str, str] | None
    integrations: list[str] = []


class TuningEvent(BaseModel):
    """Something that happened to a job."""

    id: str
    object: Literal["fine_tuning.job.event"] = "fine_tuning.job.event"
    created_at: int
    level: Literal["info", "warn", "error"]
    message: str
    type: Literal["message", "metrics"]
    data: dict[str, float | str | None] | None = None


class CheckpointMetrics(BaseModel):
    """What was measured at a checkpoint's step."""

    step: int
    train_loss: float | None = None
    full_valid_loss: float | None = None


class TuningCheckpoint(BaseModel):
    """A checkpoint, which can be asked like a model."""

    id: str
    object: Literal["fine_tuning.job.checkpoint"] = "fine_tuning.job.checkpoint"
    created_at: int
    fine_tuned_model_checkpoint: str
    fine_tuning_job_id: str
    step_number: int
    metrics: CheckpointMetrics


class FileRead(BaseModel):
    """A file: rows to learn, or the curve of a job."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    filename: str
    purpose: Literal["fine-tune", "fine-tune-results"]
    status: Literal["processed"] = "processed"
    status_details: str | None = None


class FileDeleted(BaseModel):
    """Answer of DELETE /v1/files/{id}."""

    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = True
