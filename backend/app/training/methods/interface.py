"""What the engine asks of a method: what one example is, its gradient, and its loss on examples that it never saw.

A method is one file beside this one and one line in choosing.py. It computes losses through `Computer`, so micro-batches,
packing, chunked logits and running out of memory are the same for all.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from app.training.batching import Row
from app.training.gradient import Computer

EXAMPLES_TOGETHER = 256
"""Examples of preferences that are in memory at the same time in an evaluation."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The loss of some examples."""

    loss: float
    """Mean, in the method's own measure."""
    weight: int
    """What the summed gradient is divided by: trained tokens, pairs or rows."""
    measures: dict[str, float] = field(default_factory=dict)
    """Further numbers by name, such as `accuracy`."""


class Method(Protocol):
    """Some examples, and how they are learned."""

    def __len__(self) -> int:
        """Return the number of examples."""
        ...

    def rows_of(self, places: Sequence[int]) -> list[Row]:
        """Return the rows that the examples at `places` consist of."""
        ...

    def add_gradient(self, compute: Computer, places: Sequence[int]) -> Outcome:
        """Add the examples' gradient, times `weight`, to the parameters."""
        ...

    def evaluate(self, compute: Computer) -> Outcome:
        """Return the loss of all examples, without gradients and without dropout."""
        ...
