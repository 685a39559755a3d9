"""Gradient of one optimizer step and loss over many rows, in micro-batches that shrink when memory runs out.

Losses are summed over trained tokens; whoever calls divides once. So neither the split into micro-batches nor its
change in the middle of a run alters the result beyond rounding.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from app.contracts.events import Noted
from app.core.errors import OutOfDeviceMemory, OutOfHostMemory
from app.core.units import format_bytes
from app.storage.job_dir import JobDir
from app.training.assembly import add_gradient
from app.training.batching import MicroBatch, Row, collate, split
from app.training.loss import LossHead
from app.training.memory import is_out_of_memory, peak_bytes, release
from app.training.row_file import longest_first

EVALUATED_TOGETHER = 512
"""Rows of an evaluation that are in memory at the same time."""


@dataclass
class Limits:
    """What one forward pass may hold. Only ever lowered."""

    rows: int
    tokens: int | None
    """Tokens including padding; None = no limit."""


@dataclass(frozen=True)
class Computer:
    """Runs rows through the model."""

    head: LossHead
    parameters: list[nn.Parameter]
    device: torch.device
    pad_id: int
    max_length: int
    """No row is longer (tokens)."""
    limits: Limits
    job_dir: JobDir
    check_stop: Callable[[], None]

    def accumulate_gradient(self, rows: Sequence[Row]) -> float:
        """Add the gradient of the summed loss of `rows` to the parameters; return the sum in nats."""
        return self._shrinking(rows, self._accumulate)

    def summed_loss(self, rows: Sequence[Row]) -> float:
        """Return the summed loss of `rows` in nats, without gradients and without the adapter's dropout."""
        self.head.model.eval()
        try:
            return sum(self._shrinking(part, self._sum) for part in longest_first(rows, EVALUATED_TOGETHER))
        finally:
            self.head.model.train()

    def split(self, rows: Sequence[Row]) -> list[list[Row]]:
        """Return the micro-batches that the limits allow, the longest rows first."""
        return split(rows, self.limits.rows, self.limits.tokens, packed=self.head.packs)

    def _collate(self, rows: Sequence[Row]) -> MicroBatch:
        return collate(rows, self.pad_id, self.device, self.max_length, packed=self.head.packs)

    def _accumulate(self, rows: Sequence[Row]) -> float:
        total = torch.zeros((), device=self.device)
        for part in self.split(rows):
            self.check_stop()
            total += add_gradient(self.head, self._collate(part))
        return total.item()

    @torch.no_grad()
    def _sum(self, rows: Sequence[Row]) -> float:
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        for part in self.split(rows):
            self.check_stop()
            total += self.head.summed(self._collate(part))
        return total.item()

    def _shrinking(self, rows: Sequence[Row], attempt: Callable[[Sequence[Row]], float]) -> float:
        """Return `attempt(rows)`; when memory runs out, forget the attempt, halve the micro-batch, try the same rows again."""
        while True:
            random_state = self.random_state()
            try:
                return attempt(rows)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            # Outside the handler: the exception held the frames, and they the tensors.
            for parameter in self.parameters:
                parameter.grad = None
            release()
            self.set_random_state(random_state)
            self._halve(max(len(part) for part in self.split(rows)))

    def random_state(self) -> list[torch.Tensor]:
        """Return the state of the generators that dropout draws from."""
        on_device = [torch.cuda.get_rng_state(self.device)] if self.device.type == "cuda" else []
        return [torch.get_rng_state(), *on_device]

    def set_random_state(self, states: list[torch.Tensor]) -> None:
        """Put back what `random_state` returned."""
        torch.set_rng_state(states[0])
        for state in states[1:]:
            torch.cuda.set_rng_state(state, self.device)

    def _halve(self, largest: int) -> None:
        """Halve the rows of a micro-batch. Raise OutOf*Memory when one row alone was too much."""
        if largest == 1:
            used = format_bytes(peak_bytes(self.device))
            if self.device.type == "cuda":
                raise OutOfDeviceMemory("one_row", used=used)
            raise OutOfHostMemory("one_row", used=used)
        self.limits.rows = largest // 2
        self.job_dir.append(
            Noted(level="warning", key="micro_batch_halved", params={"before": largest, "after": self.limits.rows})
        )
