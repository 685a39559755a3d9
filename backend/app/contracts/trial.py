"""A try before a training: the original model answers some rows, plainly and with a prompt and examples."""

from app.contracts.dataset import Message
from app.contracts.frozen import Frozen


class TrialRow(Frozen):
    """One row and both answers."""

    row: int
    question: list[Message]
    expected: str
    base: str
    prompted: str
    base_right: bool
    prompted_right: bool
    overlap_base: float
    """Words shared with the expected answer (F1), 0..1."""
    overlap_prompted: float


class TrialSummary(Frozen):
    """What all rows say."""

    rows: int
    heldout: bool
    """False where the data set is too small for held-out rows: then training rows were asked that are no examples."""
    right_base: float
    """Share of the rows with the expected answer, 0..1."""
    right_prompted: float
    overlap_base: float
    overlap_prompted: float
    system_prompt: str
    example_rows: list[int]


class TrialStep(Frozen):
    """The `data:` of POST /api/datasets/{id}/trial: a row, a wait, a failure, or the summary at the end."""

    done: int
    total: int
    waiting: bool = False
    """A training holds the device."""
    row: TrialRow | None = None
    summary: TrialSummary | None = None
    error_key: str | None = None
    error_params: dict[str, str] = {}
