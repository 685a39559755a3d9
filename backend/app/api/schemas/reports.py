"""What a report holds: losses, and base and tuned beside each other."""

from pydantic import BaseModel

from app.api.schemas.plans import NoticeRead
from app.contracts.comparison import AnsweredRow, MeasureName, ProbedFact, Verdict
from app.contracts.report import Report


class MeasuredRead(BaseModel):
    """One measure of both models on the same rows, with its name in the reader's language."""

    name: MeasureName
    label: str
    share: bool
    """True for shares 0..1, where more is better; False for the loss in nats."""
    rows: int
    base: float
    prompted: float | None
    """The original model with a prompt and examples."""
    tuned: float
    change: float
    """tuned - base"""
    low: float
    """95 % interval of the change."""
    high: float
    verdict: Verdict


class ComparisonRead(BaseModel):
    """The original and the trained model on the same rows."""

    summary: str
    verdict: Verdict
    rows_in_all: int
    measured_rows: int
    answered_rows: int
    max_new_tokens: int
    system_prompt: str | None
    example_rows: list[int]
    measures: list[MeasuredRead]
    worst: list[AnsweredRow]
    facts: list[ProbedFact]
    knowledge: list[MeasuredRead]
    remarks: list[NoticeRead]
    seconds: float


class ReportRead(Report):
    """Before and after, with a sentence."""

    summary: str
    improvement: float | None
    """Share by which the held-out loss fell, 0..1; negative if it rose."""
    comparison: ComparisonRead | None
    """None while it is not made, and for jobs without held-out rows."""
