"""Gradient of one optimizer step and loss over many rows, in micro-batches that shrink when memory runs out.

Losses are summed over trained tokens; whoever calls divides once. So neither the split into micro-batches nor its
change in the middle of a run alters the result beyond rounding.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import accumulate, pairwise
from typing import TypeVar

import torch
from torch import Tensor, nn

from app.contracts.events import Noted
from app.core.errors import OutOfDeviceMemory, OutOfHostMemory
from app.core.units import format_bytes
from app.planner.micro_batches import count_tokens, cut_groups
from app.storage.job_dir import JobDir
from app.training.assembly import add_gradient, find_gradient
from app.training.attention import can_unpack
from app.training.batching import MicroBatch, Row, collate, count_shared, pays_to_pack, split
from app.training.card_attention import takes_ragged
from app.training.dropout import draw_seeds, masks_from
from app.training.graphs import Graphs
from app.training.lanes import Lanes
from app.training.lora import has_dropout
from app.training.loss import LossHead
from app.training.memory import is_out_of_memory, peak_bytes, release
from app.training.row_file import longest_first
from app.training.scaling import LossScale

EVALUATED_TOGETHER = 512
"""Rows of an evaluation that are in memory at the same time."""


Group = Sequence[Row]
"""Rows whose losses are looked at together, such as a preferred answer and the other one."""
Objective = Callable[[Tensor, Sequence[int]], tuple[Tensor, Tensor]]
"""From the losses of a micro-batch's rows, group after group, and the places of its groups to (loss summed over the groups,
measures summed over the groups)."""
Part = TypeVar("Part")
Result = TypeVar("Result")


@dataclass
class Limits:
    """What one forward pass may hold. Only ever lowered."""

    rows: int
    tokens: int | None
    """Tokens including padding, of all micro-batches that are computed at the same time; None = no limit."""
    lanes: int = 1
    """Micro-batches at the same time, on a processor."""


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
    scale: LossScale = field(default_factory=LossScale)
    """What gradients are multiplied by: whoever uses them divides."""
    lanes: Lanes = field(default_factory=Lanes)
    graphs: Graphs | None = None
    """What records micro-batches of small models on a card."""

    def accumulate_gradient(self, rows: Sequence[Row]) -> float:
        """Add the gradient of the summed loss of `rows` to the parameters; return the sum in nats.

        Where memory runs out, gradients that were there before are lost as well: all rows of a step in one call.
        """
        return self._shrinking(partial(self._accumulate, rows), partial(self._largest_part, rows))

    def summed_loss(self, rows: Sequence[Row]) -> float:
        """Return the summed loss of `rows` in nats, without gradients and without the adapter's dropout."""
        self.head.model.eval()
        try:
            return sum(
                self._shrinking(partial(self._sum, part), partial(self._largest_part, part))
                for part in longest_first(rows, EVALUATED_TOGETHER)
            )
        finally:
            self.head.model.train()

    def accumulate_compared(self, groups: Sequence[Group], objective: Objective) -> tuple[float, list[float]]:
        """Add the gradient of the objective, summed over `groups`, to the parameters; return (sum, sums of its measures).

        The rows of a group stay together: the loss of one may depend on the others.
        """
        return self._shrinking(partial(self._compare, groups, objective, learn=True), partial(self._largest_group, groups))

    def compared(self, groups: Sequence[Group], objective: Objective) -> tuple[float, list[float]]:
        """Return the same sums without gradients and without the adapter's dropout."""
        self.head.model.eval()
        try:
            return self._shrinking(partial(self._compare, groups, objective, learn=False), partial(self._largest_group, groups))
        finally:
            self.head.model.train()

    def row_losses(self, rows: Sequence[Row]) -> list[float]:
        """Return the summed loss of each row in nats, without gradients and without dropout."""
        return self.grouped_losses([[row] for row in rows])

    def grouped_losses(self, groups: Sequence[Group]) -> list[float]:
        """Return the same of the rows of `groups`, one group after the other, in the micro-batches of `accumulate_compared`."""
        starts = [0, *accumulate(len(group) for group in groups)]
        found = [0.0] * starts[-1]

        def note(losses: Tensor, places: Sequence[int]) -> tuple[Tensor, Tensor]:
            rows = [row for place in places for row in range(starts[place], starts[place + 1])]
            for row, loss in zip(rows, losses.tolist(), strict=True):
                found[row] = loss
            return losses.sum(), losses[:0]

        self.compared(groups, note)
        return found

    def split(self, rows: Sequence[Row]) -> list[list[Row]]:
        """Return the micro-batches that the limits allow, the longest rows first."""
        return split(rows, self.limits.rows, self.limits.tokens, packed=self.head.packs, lanes=self.limits.lanes)

    def _collate(self, rows: Sequence[Row]) -> MicroBatch:
        packed = self.head.packs
        if not packed and can_unpack(self.head.model):
            packed = pays_to_pack(rows, self.max_length, ragged=takes_ragged(self.head.model, self.device))
        return collate(rows, self.pad_id, self.device, self.max_length, packed=packed)

    def _accumulate(self, rows: Sequence[Row]) -> float:
        parts = self.split(rows)
        if self.limits.lanes > 1 and len(parts) > 1:
            return self._accumulate_aside(parts)
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        for part in parts:
            self.check_stop()
            if self.graphs is not None and self.graphs.takes(part):
                total += self.graphs.add_gradient(part, self.scale.value)
            else:
                total += add_gradient(self.head, self._collate(part), self.scale.value)
        return total.item()

    def _accumulate_aside(self, parts: Sequence[Sequence[Row]]) -> float:
        """Add the gradients of micro-batches that are computed at the same time, in their order."""

        def compute(part: Sequence[Row]) -> tuple[float, list[Tensor]]:
            self.check_stop()
            return find_gradient(self.head, self._collate(part), self.parameters, self.scale.value)

        total = 0.0
        for loss, gradients in self._run_aside(compute, parts, learn=True):
            total += loss
            self._add(gradients)
        return total

    def _run_aside(self, compute: Callable[[Part], Result], parts: Sequence[Part], *, learn: bool) -> Iterator[Result]:
        """Yield what `compute` makes of micro-batches that are computed at the same time, in their order.

        Where something is learned each draws its dropout from a seed of its own.
        """

        def compute_dropping(seeded: tuple[int, Part]) -> Result:
            with masks_from(seeded[0]):
                return compute(seeded[1])

        if learn and has_dropout(self.head.model):
            return self.lanes.run(compute_dropping, zip(draw_seeds(len(parts)), parts, strict=True))
        return self.lanes.run(compute, parts)

    def _add(self, gradients: Sequence[Tensor]) -> None:
        """Add a micro-batch's gradients to those of the parameters."""
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            if parameter.grad is None:
                parameter.grad = gradient
            else:
                parameter.grad.add_(gradient)

    def _sum(self, rows: Sequence[Row]) -> float:
        def compute(part: Sequence[Row]) -> Tensor:
            self.check_stop()
            with torch.no_grad():
                return self.head.summed(self._collate(part))

        parts = self.split(rows)
        side_by_side = self.limits.lanes > 1 and len(parts) > 1
        # Added where they are and read once: on a card each reading is a wait.
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        for loss in self.lanes.run(compute, parts) if side_by_side else map(compute, parts):
            total += loss
        return total.item()

    def _compare(self, groups: Sequence[Group], objective: Objective, *, learn: bool) -> tuple[float, list[float]]:
        parts = self.split_groups(groups)
        aside = self.limits.lanes > 1 and len(parts) > 1

        def compute(places: Sequence[int]) -> tuple[Tensor, Tensor, list[Tensor]]:
            self.check_stop()
            with torch.set_grad_enabled(learn):  # of this thread
                loss, measured = objective(self._losses_of([row for place in places for row in groups[place]]), places)
                gradients = self._learn(loss * self.scale.value, keep=aside) if learn else []
            return loss.detach(), measured.double(), gradients

        # Added where they are and read once: on a card each reading is a wait.
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        measures: Tensor | None = None
        for loss, measured, gradients in self._run_aside(compute, parts, learn=learn) if aside else map(compute, parts):
            total += loss
            measures = measured if measures is None else measures + measured
            if gradients:
                self._add(gradients)
        return total.item(), [] if measures is None else measures.tolist()

    def _learn(self, loss: Tensor, *, keep: bool) -> list[Tensor]:
        """Add the gradient of `loss` to the parameters; or `keep` it away from them and return it."""
        if keep:
            return list(torch.autograd.grad(loss, self.parameters, materialize_grads=True))
        loss.backward()  # type: ignore[no-untyped-call]
        return []

    def _losses_of(self, rows: Sequence[Row]) -> Tensor:
        """Return the summed loss of each row, (rows,), in the order given."""
        order = sorted(range(len(rows)), key=lambda place: -len(rows[place].ids))
        batch = self._collate([rows[place] for place in order])
        owners = [place for place in order for _ in rows[place].targets]
        losses = self.head.each(batch)
        return losses.new_zeros(len(rows)).index_add(0, torch.tensor(owners, device=self.device), losses)

    def split_groups(self, groups: Sequence[Group]) -> list[list[int]]:
        """Return the micro-batches that the limits allow, as places in `groups`; a group is never divided."""
        by_length = sorted(range(len(groups)), key=lambda place: -max(len(row.ids) for row in groups[place]))

        @cache
        def count(start: int, end: int) -> int:
            rows = sorted((row for place in by_length[start:end] for row in groups[place]), key=lambda row: -len(row.ids))
            return count_tokens([len(row.ids) for row in rows], count_shared(rows) if self.head.packs else None)

        most = max(1, self.limits.rows // max(len(group) for group in groups))
        ends = cut_groups(len(groups), most, count, self.limits.tokens, self.limits.lanes)
        return [by_length[start:end] for start, end in pairwise([0, *ends])]

    def _shrinking(self, attempt: Callable[[], Result], measure_largest: Callable[[], tuple[int, int]]) -> Result:
        """Return `attempt()`; when memory runs out, forget the attempt, halve the micro-batch, try the same rows again.

        `measure_largest` returns (rows or groups in the largest micro-batch, rows of each).
        """
        while True:
            random_state = self.random_state()
            try:
                return attempt()
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            # Outside the handler: the exception held the frames, and they the tensors.
            for parameter in self.parameters:
                parameter.grad = None
            freed = self.graphs is not None and self.graphs.close()
            release()
            self.set_random_state(random_state)
            if not freed:  # else first the same again without recordings
                self._halve(*measure_largest())

    def _largest_part(self, rows: Sequence[Row]) -> tuple[int, int]:
        return max(len(part) for part in self.split(rows)), 1

    def _largest_group(self, groups: Sequence[Group]) -> tuple[int, int]:
        return max(len(part) for part in self.split_groups(groups)), max(len(group) for group in groups)

    def random_state(self) -> list[torch.Tensor]:
        """Return the state of the generators that dropout draws from."""
        on_device = [torch.cuda.get_rng_state(self.device)] if self.device.type == "cuda" else []
        return [torch.get_rng_state(), *on_device]

    def set_random_state(self, states: list[torch.Tensor]) -> None:
        """Put back what `random_state` returned."""
        torch.set_rng_state(states[0])
        for state in states[1:]:
            torch.cuda.set_rng_state(state, self.device)

    def _halve(self, count: int, together: int) -> None:
        """Halve a micro-batch of `count` groups of `together` rows. Raise OutOf*Memory when one alone was too much."""
        if count == 1 and self.limits.lanes > 1:
            self.limits.lanes = 1
            self.job_dir.append(Noted(level="warning", key="lanes_closed"))
            return
        if count == 1:
            used = format_bytes(peak_bytes(self.device))
            if self.device.type == "cuda":
                raise OutOfDeviceMemory("one_row", used=used)
            raise OutOfHostMemory("one_row", used=used)
        self.limits.rows = count // 2 * together
        self.job_dir.append(
            Noted(level="warning", key="micro_batch_halved", params={"before": count * together, "after": self.limits.rows})
        )
