"""Direct preference optimisation (Rafailov et al. 2023, arXiv 2305.18290): of two answers, one is to become likelier.

    loss = -log sigmoid(beta * ((log p(chosen) - log p(rejected)) - (log r(chosen) - log r(rejected))))

p is the model, r the same model before the first step (reference.py); log-probabilities are sums over an answer's tokens.
Both answers of a pair are in one micro-batch: packed, their common prompt is computed once.
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from app.training.batching import Row
from app.training.gradient import Computer
from app.training.methods.interface import EXAMPLES_TOGETHER, Outcome


class Dpo:
    """Pairs: the preferred answer's row, then the other one's."""

    def __init__(self, rows: Sequence[Row], reference: Sequence[float], beta: float) -> None:
        self.rows, self.reference, self.beta = rows, reference, beta

    def __len__(self) -> int:
        return len(self.rows) // 2

    def rows_of(self, places: Sequence[int]) -> list[Row]:
        """Return two rows a pair."""
        return [self.rows[row] for place in places for row in (2 * place, 2 * place + 1)]

    def add_gradient(self, compute: Computer, places: Sequence[int]) -> Outcome:
        """Add the gradient of the summed loss of the pairs."""
        return self._outcome([compute.accumulate_compared(self._pairs(places), partial(self._judge, places))], len(places))

    def evaluate(self, compute: Computer) -> Outcome:
        """Return the mean loss of all pairs."""
        parts = [range(len(self))[start : start + EXAMPLES_TOGETHER] for start in range(0, len(self), EXAMPLES_TOGETHER)]
        return self._outcome([compute.compared(self._pairs(part), partial(self._judge, part)) for part in parts], len(self))

    def _pairs(self, places: Sequence[int]) -> list[list[Row]]:
        return [self.rows_of([place]) for place in places]

    def _judge(self, places: Sequence[int], losses: Tensor, chosen_places: Sequence[int]) -> tuple[Tensor, Tensor]:
        """`losses` are -log p of both answers of each pair; return the summed loss and the summed measures."""
        known = [self.reference[row] for at in chosen_places for row in (2 * places[at], 2 * places[at] + 1)]
        reference = torch.tensor(known, dtype=losses.dtype, device=losses.device)
        rewards = self.beta * (-losses - reference)
        chosen, rejected = rewards[0::2], rewards[1::2]
        margins = chosen - rejected
        measures = torch.stack([(margins > 0).sum(), margins.sum(), chosen.sum(), rejected.sum()]).detach()
        return -F.logsigmoid(margins).sum(), measures

    @staticmethod
    def _outcome(parts: list[tuple[float, list[float]]], pairs: int) -> Outcome:
        measures = [sum(values) / pairs for values in zip(*(part[1] for part in parts), strict=True)]
        names = ("accuracy", "reward_margin", "reward_chosen", "reward_rejected")
        return Outcome(sum(part[0] for part in parts) / pairs, pairs, dict(zip(names, measures, strict=True)))
