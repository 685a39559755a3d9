"""The stream of a step: which block of memory is taken or given back, in order, and what each operation costs.

Operations run on the `meta` device: no numbers, no weights, no GPU, yet every tensor has its size and lives as long as
the real one. A storage counts once, however many views of it there are.
"""

import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from app.contracts.trace import Phase
from app.planner.trace.costs import Costs, count_costs
from app.planner.trace.shapes import Runner

Purpose = Literal["weights", "adapter", "gradients", "optimizer", "activations", "logits", "workspace"]
PURPOSES: tuple[Purpose, ...] = (
    "weights",
    "adapter",
    "gradients",
    "optimizer",
    "activations",
    "logits",
    "workspace",
)
BEFORE, AFTER = -1, -2
"""Places in a pass that belong to no block: what comes before the first one, what comes after the last one."""


@dataclass(frozen=True, slots=True)
class Mark:
    """From event number `start` on, the step is in this phase at this place."""

    start: int
    phase: Phase
    place: int
    """Number of the transformer block, or BEFORE, or AFTER."""
    round: int
    """Which pass over the phases (micro-batch or step) this is, from 0."""


@dataclass
class Stream:
    """Events in order: `ids[i]` is taken (`sizes[i]` > 0 bytes) or given back (`sizes[i]` < 0, the same bytes)."""

    ids: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    purposes: dict[int, Purpose] = field(default_factory=dict)
    """Block -> what it is for."""
    marks: list[Mark] = field(default_factory=list)
    costs: dict[tuple[Phase, int], Costs] = field(default_factory=dict)
    """(phase, round) -> work done in it."""

    @property
    def live_bytes(self) -> int:
        """Bytes that are in use after the last event."""
        return sum(self.sizes)


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Writes a Stream while it is active. `hold` adds what was made before."""

    def __init__(self, runner: Runner | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.stream = Stream()
        self.purpose: Purpose | None = None
        """Purpose of whatever is taken next; None = by the phase."""
        self.phase: Phase = "forward"
        self.place = BEFORE
        self.round = 0
        self._blocks: dict[int, tuple[weakref.ref[Any], int]] = {}
        self._count = 0
        self._costs = Costs()
        self._runner = runner or Runner()

    # ---- places ----------------------------------------------------------------------------------------------------
    def begin(self, phase: Phase, place: int = BEFORE, round_: int | None = None) -> None:
        """Say that what follows belongs to this phase and place."""
        self.phase, self.place = phase, place
        if round_ is not None:
            self.round = round_
        self.stream.marks.append(Mark(len(self.stream.ids), phase, place, self.round))
        self._costs = self.stream.costs.setdefault((phase, self.round), Costs())

    def finish(self) -> Stream:
        """Return what was recorded so far; whatever dies later is not written to it."""
        stream = self.stream
        return Stream(stream.ids[:], stream.sizes[:], stream.purposes.copy(), stream.marks[:], stream.costs)

    def move(self, place: int) -> None:
        """Say that the phase has reached another place."""
        if place != self.place:
            self.begin(self.phase, place)

    def count_unpacking(self, size: float) -> None:
        """Add `size` bytes moved to unpack a 4-bit matrix."""
        self._costs.bytes_unpacked += size
        self._costs.launches += 1

    # ---- blocks ----------------------------------------------------------------------------------------------------
    def hold(self, tensors: Iterable[Tensor], purpose: Purpose) -> None:
        """Add the storages of `tensors`, for `purpose`; one that is known already gets the purpose."""
        for tensor in tensors:
            storage = tensor.untyped_storage()
            known = self._blocks.get(storage._cdata)
            if known is not None and known[0]() is storage:
                self.stream.purposes[known[1]] = purpose
            else:
                self._take(storage, purpose)

    def take(self, size: int, purpose: Purpose) -> int:
        """Take a block that no tensor shows (a library's workspace); return its id for `give_back`."""
        self._count += 1
        self.stream.ids.append(self._count)
        self.stream.sizes.append(size)
        self.stream.purposes[self._count] = purpose
        return self._count

    def give_back(self, block: int, size: int) -> None:
        """Give back a block from `take`."""
        self.stream.ids.append(block)
        self.stream.sizes.append(-size)

    def _take(self, storage: Any, purpose: Purpose) -> None:
        size = storage.nbytes()
        if not size:
            return
        key, block = storage._cdata, self.take(size, purpose)
        blocks, give_back = self._blocks, self.give_back

        def gone(_: object) -> None:
            if blocks.get(key, (None, -1))[1] == block:
                del blocks[key]
            give_back(block, size)

        blocks[key] = (weakref.ref(storage, gone), block)

    def _choose_purpose(self) -> Purpose:
        if self.purpose is not None:
            return self.purpose
        if self.phase == "loss" or (self.phase == "backward" and self.place == AFTER):
            return "logits"
        return "workspace" if self.phase == "optimizer" else "activations"

    # ---- operations ------------------------------------------------------------------------------------------------
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = self._runner.run(func, args, kwargs or {})
        for tensor in _tensors(out):
            storage = tensor.untyped_storage()
            if storage._cdata not in self._blocks:
                self._take(storage, self._choose_purpose())
        count_costs(self._costs, func, args, out)
        hidden = _HIDDEN.get(func)
        if hidden is not None:
            size = hidden(args)
            self.give_back(self.take(size, "workspace"), size)
        return out


def _tensors(value: Any) -> Iterable[Tensor]:
    if isinstance(value, Tensor):
        return (value,)
    if isinstance(value, tuple | list):
        return [tensor for item in value for tensor in _tensors(item)]
    return ()


def _count_product(args: Any) -> int:
    grad: Tensor = args[0]
    return grad.numel() * grad.element_size()


_HIDDEN: dict[Any, Callable[[Any], int]] = {torch.ops.aten._softmax_backward_data.default: _count_product}
"""Memory that an operation takes inside itself and gives back before it ends. CUDA's softmax gradient first writes
grad * output (aten/src/ATen/native/cuda/SoftMax.cu); without it rows with plain attention come out 20 % too small."""
