"""Forward and backward pass of a micro-batch on a card as one recorded graph (CUDA graphs), replayed in a single launch.

A small model is bound by launches: each of its thousands of short kernels takes the processor longer to start than the card
to compute. A graph starts all of them at once, but does what was recorded: the same sizes, at the same addresses, with the
same numbers of Python. So a micro-batch is padded to one of few buckets and copied to the bucket's own tensors; the work
reads nothing else that changes but the parameters, which the optimizer changes where they are, and adds to gradients that stay
where they are. A bucket that was met a few times is recorded; before, and where recording fails, the same work runs as it is.

Padding has no target and every row sees itself alone, so loss and gradient are those of the rows (tests/engine/test_graphs.py,
on a processor, with a recorder that keeps to the same rules). No card has run it yet: docs/adr/0019.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from app.training.batching import MicroBatch, Row
from app.training.loss import LossHead

log = logging.getLogger(__name__)

MET_BEFORE = 2
"""Times that a bucket is computed before it is recorded: libraries have chosen their kernels by then."""
MOST_RECORDED = 24
"""Graphs of a run. Each takes the card's memory for its launches, some megabytes; intermediate results they share."""
LAUNCH_BOUND = 4e12
"""Parameters of the model times tokens of a micro-batch up to which launches are judged to be the limit: 774M with 4,096 tokens
are 13 TFLOP forward and backward, about what an H100 does while some 4,000 kernels and 500 Python functions are started. Not
measured."""
NEAR = 1e-2
"""Largest distance of a recording's loss and gradient from those of the work itself, relative. Kernels round alike in both; what
a recording must not keep, a number of Python or an address, changes far more."""
ROOM = 2.0
"""So many times what the largest micro-batch takes has to be free: for the graphs' own memory, and for what is not recorded."""
SHARES = 8
"""Sizes of a bucket are so many to each power of two, so that padding is at most about a sixth."""
SHORTEST_STEP = 64


@dataclass(frozen=True, slots=True)
class Bucket:
    """The size of a padded micro-batch."""

    rows: int
    length: int
    targets: int

    @property
    def tokens(self) -> int:
        """Padding counted."""
        return self.rows * self.length


def choose_bucket(rows: Sequence[Row], max_length: int) -> Bucket:
    """Return the bucket of these rows, none of them longer than `max_length`."""
    longest = max(len(row.ids) for row in rows)
    step = max(SHORTEST_STEP, (1 << (longest - 1).bit_length()) // SHARES)
    length = min(-(-longest // step) * step, max_length)
    share = -(-len(rows) * length // SHARES)
    return Bucket(len(rows), length, -(-sum(len(row.targets) for row in rows) // share) * share)


class Recorder(Protocol):
    """Records work that changes nothing but numbers in tensors that exist already."""

    def has_room(self) -> bool:
        """Return whether there is memory for what recorded work keeps."""
        ...

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """Return what does the work again, with the numbers that are in its tensors then; do not do it now."""
        ...


class CudaRecorder:
    """Records on a card. All graphs share one pool of memory: none reads what another has left there."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool = torch.cuda.graph_pool_handle()

    def has_room(self) -> bool:
        """Return whether twice the largest need so far is free, when nothing is kept for later."""
        held = torch.cuda.memory_allocated(self._device)
        free = torch.cuda.mem_get_info(self._device)[0] + torch.cuda.memory_reserved(self._device) - held
        return free >= ROOM * (torch.cuda.max_memory_allocated(self._device) - held)

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """Capture the work. The default generator takes part: each replay draws other numbers for the adapter's dropout."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(self._device), torch.cuda.graph(graph, pool=self._pool):
            work()
        return graph.replay


@dataclass
class _Slot:
    """The tensors of a bucket, which stay where they are."""

    bucket: Bucket
    batch: MicroBatch
    real: Tensor
    """(targets,), False where there is no target but padding."""
    met: int = 0
    replay: Callable[[], None] | None = None
    proven: bool = False
    """Whether `replay` gave the gradient of other rows than were recorded."""

    @staticmethod
    def of(bucket: Bucket, device: torch.device) -> "_Slot":
        ids = torch.zeros(bucket.rows, bucket.length, dtype=torch.long, device=device)
        positions = torch.zeros(bucket.targets, dtype=torch.long, device=device)
        batch = MicroBatch(ids, positions, torch.zeros_like(positions), tokens=0)
        return _Slot(bucket, batch, torch.zeros_like(positions, dtype=torch.bool))

    def fill(self, rows: Sequence[Row], pad_id: int) -> None:
        """Copy the rows in. Padding behind the targets stands at different places: their gradients, zeros, are added there."""
        length, missing = self.bucket.length, self.bucket.targets - sum(len(row.targets) for row in rows)
        ids = torch.full((self.bucket.rows, length), pad_id)
        for index, row in enumerate(rows):
            ids[index, : len(row.ids)] = torch.tensor(row.ids)
        positions = [index * length + target - 1 for index, row in enumerate(rows) for target in row.targets]
        targets = [row.ids[target] for row in rows for target in row.targets]
        self.batch.ids.copy_(ids)
        self.batch.positions.copy_(torch.tensor([*positions, *(place % self.bucket.tokens for place in range(missing))]))
        self.batch.targets.copy_(F.pad(torch.tensor(targets), (0, missing)))
        self.real.copy_(torch.arange(self.bucket.targets) < len(targets))


@dataclass
class Graphs:
    """Computes the gradients of padded micro-batches, from recordings where it has one."""

    head: LossHead
    parameters: list[nn.Parameter]
    device: torch.device
    pad_id: int
    max_length: int
    recorder: Recorder
    say_closed: Callable[[str], object]
    """Called with the reason when recording failed."""
    open: bool = True
    """Whether micro-batches come here at all."""
    _slots: dict[Bucket, _Slot] = field(default_factory=dict)
    _gradients: list[Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._size = sum(parameter.numel() for parameter in self.head.model.parameters())
        self._scale = torch.ones((), device=self.device)
        self._loss = torch.zeros((), dtype=torch.float64, device=self.device)

    @property
    def recorded(self) -> int:
        """How many buckets are replayed."""
        return sum(slot.replay is not None for slot in self._slots.values())

    def takes(self, rows: Sequence[Row]) -> bool:
        """Return whether launches are the limit of a micro-batch of these rows."""
        return self.open and choose_bucket(rows, self.max_length).tokens * self._size <= LAUNCH_BOUND

    def add_gradient(self, rows: Sequence[Row], scale: float) -> Tensor:
        """Add `scale` times the gradient of the summed loss to the parameters; return the loss in nats.

        The next call overwrites what is returned. The parameters' gradients stay in tensors of this object, which takes over
        those that it finds.
        """
        bucket = choose_bucket(rows, self.max_length)
        slot = self._slots.get(bucket)
        if slot is None:
            slot = self._slots[bucket] = _Slot.of(bucket, self.device)
        slot.fill(rows, self.pad_id)
        self._scale.fill_(scale)
        self._take_gradients()
        if slot.replay is not None and not slot.proven:
            self._prove(slot, slot.replay)
        elif slot.replay is None and slot.met >= MET_BEFORE and self.recorded < MOST_RECORDED and self.recorder.has_room():
            self._record(slot)
        slot.met += 1
        if slot.replay is not None and slot.proven:
            slot.replay()
        else:
            self._compute(slot)
        return self._loss

    def close(self) -> bool:
        """Drop all recordings and take no more; return whether that freed anything."""
        had = self.recorded > 0
        self.open = False
        self._slots.clear()
        self._gradients = []
        return had

    def _compute(self, slot: _Slot) -> None:
        """What is recorded. Gradients are asked for, not accumulated by autograd, which would do that on a stream of its own."""
        losses = self.head.each(slot.batch)
        loss = losses.where(slot.real, 0.0).sum()
        found = torch.autograd.grad(loss * self._scale, self.parameters, materialize_grads=True)
        torch._foreach_add_(self._gradients, found)
        self._loss.copy_(loss.detach())

    def _record(self, slot: _Slot) -> None:
        try:
            slot.replay = self.recorder.record(lambda: self._compute(slot))
        except RuntimeError as error:  # also out of memory: without graphs there may be room
            self._give_up(slot, str(error).splitlines()[0] if str(error) else type(error).__name__)
        else:
            log.info("recorded %s, graph %d", slot.bucket, self.recorded)

    def _prove(self, slot: _Slot, replay: Callable[[], None]) -> None:
        """Compute the rows in the slot both ways; leave gradients and random numbers as they were."""
        kept, state = [gradient.clone() for gradient in self._gradients], self._random_state()
        found = []
        works: tuple[Callable[[], None], ...] = (lambda: self._compute(slot), replay)
        for work in works:
            torch._foreach_zero_(self._gradients)
            self._set_random_state(state)
            work()
            found.append((self._loss.clone(), torch.cat([gradient.flatten() for gradient in self._gradients])))
        torch._foreach_copy_(self._gradients, kept)
        self._set_random_state(state)
        (loss, gradient), (again, other) = found
        if not torch.isfinite(gradient.sum()):
            return  # an overflow proves nothing: the next rows may
        slot.proven = all(
            bool((second - first).norm() <= NEAR * first.norm()) for first, second in ((loss, again), (gradient, other))
        )
        if not slot.proven:
            self._give_up(slot, f"loss {again.item():.4f} instead of {loss.item():.4f}")

    def _give_up(self, slot: _Slot, reason: str) -> None:
        log.warning("recording %s failed, going on without: %s", slot.bucket, reason)
        self.open = False
        self.say_closed(reason)

    def _random_state(self) -> Tensor:
        return torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else torch.get_rng_state()

    def _set_random_state(self, state: Tensor) -> None:
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(state, self.device)
        else:
            torch.set_rng_state(state)

    def _take_gradients(self) -> None:
        if not self._gradients:
            self._gradients = [torch.empty_like(parameter) for parameter in self.parameters]
        strange = [pair for pair in zip(self.parameters, self._gradients, strict=True) if pair[0].grad is not pair[1]]
        if fresh := [buffer for parameter, buffer in strange if parameter.grad is None]:
            torch._foreach_zero_(fresh)
        for parameter, buffer in strange:
            if parameter.grad is not None:
                buffer.copy_(parameter.grad)
            parameter.grad = buffer


def find_graphs(
    head: LossHead,
    parameters: list[nn.Parameter],
    device: torch.device,
    pad_id: int,
    max_length: int,
    *,
    checkpointing: bool,
    quantized: bool,
    say_closed: Callable[[str], object],
) -> Graphs | None:
    """Return what records this model's micro-batches; None off a card, and where it never pays or cannot be recorded.

    Recomputed activations put random states back, which a recording cannot, and belong to models that are short of memory;
    so do weights in 4 bits, whose kernels are not ours. A loss over all logits is for models that we know little of.
    """
    if device.type != "cuda" or checkpointing or quantized or not head.chunk_rows:
        return None
    return Graphs(head, parameters, device, pad_id, max_length, CudaRecorder(device), say_closed)
