"""What the route that tries a model before a training takes and answers."""

from pydantic import BaseModel, Field

from app.api.schemas.errors import ErrorContent
from app.contracts.trial import TrialStep


class TrialRequest(BaseModel):
    """Body of POST /api/datasets/{id}/trial."""

    model_name: str = Field(min_length=1, max_length=300)
    rows: int = Field(default=8, ge=1, le=50)


class TrialStepRead(TrialStep):
    """One step, with a failure in the reader's language."""

    error: ErrorContent | None = None
