"""What the plan route answers, and the body that it shares with a start."""

from typing import Any

from pydantic import BaseModel, Field

from app.contracts.options import FinetuningOptions
from app.contracts.plan import MemoryParts, Origin, Verdict


class StartFinetuningRequest(FinetuningOptions):
    """Body of POST /api/start-finetuning and POST /api/plans; absent or null = automatic."""

    dataset_id: str = Field(min_length=1, max_length=200)
    model_name: str = Field(min_length=1, max_length=300)
    """A model id of the catalogue, a hub id, or a local folder inside the allowed roots."""
    name: str | None = Field(default=None, max_length=200)
    """A title for the job; automatic = model and data set."""
    device_id: str | None = Field(default=None, max_length=20)
    """`cpu` or `cuda:N`; automatic = the best device."""

    def arguments(self) -> dict[str, Any]:
        """Return the fields as the keyword arguments of `finetune` and `plan`."""
        return dict(self)


class NoticeRead(BaseModel):
    """A reason or a warning in the reader's language."""

    code: str
    message: str
    hint: str


class ResolvedRead(BaseModel):
    """One value and where it comes from."""

    value: Any
    origin: Origin
    reason: str | None


class PlanRead(BaseModel):
    """Memory and time before anything is spent."""

    model_id: str
    device_id: str
    device_name: str
    fits: bool
    verdict: Verdict
    peak_bytes: int
    peak_bytes_upper: int
    available_bytes: int
    parts: MemoryParts
    seconds_p50: float
    seconds_p90: float
    steps: int
    train_rows: int
    heldout_rows: int
    effective_batch_size: int
    resolved: dict[str, ResolvedRead]
    reasons: list[NoticeRead]
    warnings: list[NoticeRead]
    alternatives: list[str]
