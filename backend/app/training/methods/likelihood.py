"""Supervised fine-tuning, and continued pre-training on raw text: the mean cross-entropy of the trained tokens.

They differ in their rows: of a conversation the answers are trained, of a text everything.
"""

from collections.abc import Sequence

from app.training.batching import Row
from app.training.gradient import Computer
from app.training.methods.interface import Outcome


class Likelihood:
    """Rows whose trained tokens are to become likely."""

    def __init__(self, rows: Sequence[Row], trained_tokens: int) -> None:
        self.rows = rows
        self.trained_tokens = trained_tokens

    def __len__(self) -> int:
        return len(self.rows)

    def rows_of(self, places: Sequence[int]) -> list[Row]:
        """Return one row an example."""
        return [self.rows[place] for place in places]

    def add_gradient(self, compute: Computer, places: Sequence[int]) -> Outcome:
        """Add the gradient of the summed cross-entropy."""
        rows = self.rows_of(places)
        trained = sum(len(row.targets) for row in rows)
        return Outcome(compute.accumulate_gradient(rows) / trained, trained)

    def evaluate(self, compute: Computer) -> Outcome:
        """Return the mean cross-entropy in nats."""
        return Outcome(compute.summed_loss(self.rows) / self.trained_tokens, self.trained_tokens)
