"""Kahneman-Tversky optimisation (Ethayarajh et al. 2024, arXiv 2402.01306): answers that are good or bad, without pairs.

    good: loss = 1 - sigmoid(beta * (ratio - z))        bad: loss = 1 - sigmoid(beta * (z - ratio))

ratio = log p(answer) - log r(answer), with p the model and r the same model before the first step. z, at least 0, is the
mean ratio of answers to questions that they do not belong to, over the rows of the step, and counts as a constant: how far
the model has moved altogether. The mismatched answer of a row is that of the row before it in the file.
"""

from collections.abc import Sequence
from functools import partial
from itertools import chain

import torch
from torch import Tensor

from app.training.batching import Row
from app.training.gradient import Computer
from app.training.methods.interface import EXAMPLES_TOGETHER, Outcome


class Mismatched(Sequence[Row]):
    """Each row's question with the answer of the row before it; none where all rows have the same question."""

    def __init__(self, rows: Sequence[Row], max_length: int) -> None:
        self._rows, self._max_length = rows, max_length

    def __len__(self) -> int:
        # At most two answers to one question lie beside each other.
        alone = len(self._rows) < 2 or (len(self._rows) == 2 and self._rows[0].row == self._rows[1].row)
        return 0 if alone else len(self._rows)

    def __getitem__(self, place):  # type: ignore[no-untyped-def]
        """Return the row at `place`; slices are not needed."""
        row, other = self._rows[place], self._rows[place - 1]
        if other.row == row.row:  # two answers to one question lie beside each other
            other = self._rows[place - 2]
        answer = other.ids[other.targets[0] :]
        question = row.ids[: row.targets[0]]
        ids = [*question, *answer][: self._max_length]
        if len(ids) <= len(question):
            question = question[: len(ids) - 1]
            ids = [*question, answer[0]]
        return Row(ids, list(range(len(question), len(ids))), row.row)


class Kto:
    """Rows with good and bad answers."""

    def __init__(
        self,
        rows: Sequence[Row],
        mismatched: Sequence[Row],
        reference: Sequence[float],
        mismatched_reference: Sequence[float],
        beta: float,
    ) -> None:
        self.rows, self.reference = rows, reference
        self.mismatched, self.mismatched_reference = mismatched, mismatched_reference
        self.beta = beta

    def __len__(self) -> int:
        return len(self.rows)

    def rows_of(self, places: Sequence[int]) -> list[Row]:
        """Return one row an example."""
        return [self.rows[place] for place in places]

    def add_gradient(self, compute: Computer, places: Sequence[int]) -> Outcome:
        """Add the gradient of the summed loss of the rows."""
        moved = self._measure_move(compute, places)
        judge = partial(self._judge, moved, places)
        summed = compute.accumulate_compared([[row] for row in self.rows_of(places)], judge)
        return self._outcome([summed], len(places), moved)

    def evaluate(self, compute: Computer) -> Outcome:
        """Return the mean loss of all rows."""
        moved = self._measure_move(compute, range(len(self)))
        parts = [range(len(self))[start : start + EXAMPLES_TOGETHER] for start in range(0, len(self), EXAMPLES_TOGETHER)]
        summed = [compute.compared([[row] for row in self.rows_of(part)], partial(self._judge, moved, part)) for part in parts]
        return self._outcome(summed, len(self), moved)

    def _measure_move(self, compute: Computer, places: Sequence[int]) -> float:
        """Return z over the rows at `places`; 0 where there is no answer to another question."""
        if not self.mismatched:
            return 0.0
        parts = [places[start : start + EXAMPLES_TOGETHER] for start in range(0, len(places), EXAMPLES_TOGETHER)]
        losses = chain.from_iterable(compute.row_losses([self.mismatched[place] for place in part]) for part in parts)
        ratios = [-loss - self.mismatched_reference[place] for loss, place in zip(losses, places, strict=True)]
        mean = sum(ratios) / len(ratios)
        return 0.0 if mean < 0 else mean  # not a number stays one that is none

    def _judge(self, moved: float, places: Sequence[int], losses: Tensor, chosen: Sequence[int]) -> tuple[Tensor, Tensor]:
        """`losses` are -log p of each row's answer; return the summed loss and the summed measures."""
        at = [places[index] for index in chosen]
        reference = torch.tensor([self.reference[place] for place in at], dtype=losses.dtype, device=losses.device)
        good = torch.tensor([self.rows[place].desired for place in at], device=losses.device)
        ratios = -losses - reference
        signs = torch.where(good, 1.0, -1.0).to(losses.dtype)
        loss = (1 - torch.sigmoid(self.beta * signs * (ratios - moved))).sum()
        rewards = self.beta * ratios.detach()
        sums = [(rewards * good).sum(), good.sum(), (rewards * ~good).sum(), (~good).sum()]
        return loss, torch.stack([part.to(losses.dtype) for part in sums])

    @staticmethod
    def _outcome(parts: list[tuple[float, list[float]]], rows: int, moved: float) -> Outcome:
        good, goods, bad, bads = (sum(values) for values in zip(*(part[1] for part in parts), strict=True))
        measures = {"kl": moved}
        if goods:
            measures["reward_good"] = good / goods
        if bads:
            measures["reward_bad"] = bad / bads
        if goods and bads:
            measures["reward_margin"] = good / goods - bad / bads
        return Outcome(sum(part[0] for part in parts) / rows, rows, measures)
