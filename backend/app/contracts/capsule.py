"""A capsule: one file that says what a job was and what came of it, without any text of the data."""

from typing import Literal

from app.contracts.comparison import Comparison
from app.contracts.events import EvalLogged, Noted
from app.contracts.frozen import Frozen
from app.contracts.job import TrainingJob
from app.contracts.report import Report


class Curve(Frozen):
    """The loss of each optimizer step, a step that was done twice counted once."""

    steps: list[int]
    losses: list[float]
    learning_rates: list[float]


class Capsule(Frozen):
    """Everything by which a training can be told, compared and repeated: `affinage jobs capsule`."""

    schema_version: Literal[1] = 1
    made_at: str
    """UTC, ISO 8601."""
    job: TrainingJob
    """With the hash of the data, the commit of the model, the seed and the versions."""
    adapter_sha256: str | None
    """None while there is no adapter."""
    chat_template: str | None
    """The very template that the rows were written with; None where the model has none or is no longer here."""
    curve: Curve
    evaluations: list[EvalLogged]
    decisions: list[Noted]
    report: Report | None
    comparison: Comparison | None
    """Its figures; rows, answers and questions are left out."""
    request: dict[str, object]
    """The body of POST /api/start-finetuning that makes the same job."""
