"""`comparison.json`: the original and the trained model beside each other, answering rows that training never saw."""

from typing import Literal

from app.contracts.dataset import Message
from app.contracts.frozen import Frozen
from app.contracts.plan import Notice

MeasureName = Literal["loss", "accuracy", "exact", "json_valid", "json_equal", "overlap", "known"]
"""Cross-entropy in nats; right class; the expected text; JSON at all; the expected JSON; shared words (F1); facts still known.
All but the loss are shares, 0..1, and higher is better."""
Verdict = Literal["better", "worse", "no_effect"]


class Measured(Frozen):
    """One measure of both models on the same rows."""

    name: MeasureName
    rows: int
    base: float
    prompted: float | None = None
    """The original model with a prompt and examples of the training rows; None where it was not asked."""
    tuned: float
    low: float
    """95 % interval of tuned - base, by resampling the rows in pairs."""
    high: float

    @property
    def change(self) -> float:
        """Tuned minus base."""
        return self.tuned - self.base

    @property
    def verdict(self) -> Verdict:
        """What the interval allows to say: no effect when it holds 0."""
        if self.low <= 0 <= self.high:
            return "no_effect"
        return "better" if (self.high < 0) == (self.name == "loss") else "worse"


class AnsweredRow(Frozen):
    """One held-out row with the answers of all."""

    row: int
    """Its number in the imported file."""
    question: list[Message]
    expected: str
    base: str
    prompted: str | None
    tuned: str
    overlap_base: float
    overlap_tuned: float
    right: bool
    """Whether the trained model's answer is the expected one."""
    loss_base: float | None
    """Mean nats per token of the expected answer; None where the time did not allow to measure it."""
    loss_tuned: float | None


class ProbedFact(Frozen):
    """One general question, which has nothing to do with the data."""

    language: str
    question: str
    expected: str
    base: str
    tuned: str
    base_right: bool
    tuned_right: bool


class Comparison(Frozen):
    """What the same rows say about base and tuned."""

    schema_version: Literal[1] = 1
    rows_in_all: int
    """Held-out rows of the job."""
    measured_rows: int
    """Rows whose loss was measured one by one."""
    answered_rows: int
    max_new_tokens: int
    """Answers were cut at this length."""
    system_prompt: str | None
    """What the original model was told, beside the examples, to answer as the data do."""
    example_rows: list[int]
    """Training rows that it was shown."""
    measures: list[Measured]
    worst: list[AnsweredRow]
    """At most 20, the worst answers of the trained model first."""
    facts: list[ProbedFact]
    knowledge: list[Measured]
    """`loss` and `known` over the general questions: how much was forgotten."""
    verdict: Verdict
    """Of the loss."""
    remarks: list[Notice]
    """Likely causes where there is no effect, and what a prompt alone would do."""
    seconds: float
