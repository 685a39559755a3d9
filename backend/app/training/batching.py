"""Epochs become optimizer steps, steps become micro-batches.

The order of the rows is a pure function of seed and epoch, so a resumed run needs no stored order. Inside one optimizer
step rows are sorted by length and cut into micro-batches: as losses are summed over tokens and divided once per step,
any such split gives the same gradient.

A micro-batch is padded, (rows, length), or packed: the rows one behind the other without padding, and the tokens that all
of them begin with (a chat template's system message, say) only once, because what a causal model makes of them does not
depend on what follows. A row's attention sees that beginning and the row alone, so the loss and its gradient are the same.
"""

import math
import random
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from app.planner.micro_batches import PACKED_STEP, cut_evenly, pad_length, round_length, round_up

MOST_PACKED = 0.75
"""Share of the padded tokens up to which rows that have to be copied for attention are packed on a card. Judged by the traced
memory of a step (phi-2 in 4 bits, 512 tokens: packed as full rows it takes 12 % more than padded), not measured on a card."""


@dataclass(frozen=True, slots=True)
class Row:
    """One example as ids. `targets` are the indices of the ids that are learned (never 0: nothing precedes it)."""

    ids: list[int]
    targets: list[int]
    row: int = 0
    """Number of the row in the imported file, from 1; 0 where it comes from none."""
    desired: bool = True
    """False for an answer that the model is to avoid (preference data)."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Where packed tokens stand when each row has its beginning for itself: as (places), rows one behind the other."""

    sources: Tensor
    """(places,), int64: the packed token at each place."""
    places: Tensor
    """(used,), int64: the place of each packed token; a shared one's in the first row."""
    shared_places: Tensor
    """(rows, shared), int64: the places of what all rows begin with."""
    starts: Tensor | None = None
    """(rows + 1,), int32: where each row starts, and the end; None when rows are padded to one length."""
    longest: int = 0
    """Tokens of the longest row."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the tokens of a packed micro-batch stand as (rows, length), the form that attention needs.

    Packed are first the `shared` tokens that all rows begin with, then what follows them in each row, then padding.
    """

    rows: int
    length: int
    """Of the longest row, rounded up."""
    shared: int
    used: int
    """Packed tokens without the padding at the end."""
    places: Tensor
    """(used,), int64: the place of each packed token among the rows * length; a shared one's in the first row."""
    sources: Tensor
    """(rows * length,), int64: the packed token that stands at each place; 0 where a row has ended. The first row is the
    longest."""
    ragged: Spread | None = None
    """The rows without padding, for kernels of cards that take them so."""

    @property
    def padded(self) -> Spread:
        """The rows, each padded to `length`."""
        firsts = torch.arange(self.rows, device=self.places.device)[:, None] * self.length
        return Spread(self.sources, self.places, firsts + torch.arange(self.shared, device=self.places.device))


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Tensors for one forward pass."""

    ids: Tensor
    """(rows, length), each row padded on the right, or (1, tokens) when packed; int64."""
    positions: Tensor
    """Indices into the flattened ids whose output predicts `targets`."""
    targets: Tensor
    tokens: int
    """Real tokens of all rows, without padding; those that are shared count for each row."""
    places: Tensor | None = None
    """When packed: the place of each token in its row, (1, tokens), int64."""
    layout: Layout | None = None
    """When packed."""


def steps_per_epoch(rows: int, rows_per_step: int) -> int:
    """Return optimizer steps per epoch; the last one may hold fewer rows."""
    return math.ceil(rows / rows_per_step)


def epoch_order(rows: int, seed: int, epoch: int) -> "array[int]":
    """Return the order of the rows in `epoch` (from 0)."""
    order = array("q", range(rows))
    random.Random(f"{seed}:{epoch}").shuffle(order)  # noqa: S311  reproducible on purpose
    return order


def split(rows: Sequence[Row], max_rows: int, max_tokens: int | None, *, packed: bool = False, lanes: int = 1) -> list[list[Row]]:
    """Cut the rows of one step into micro-batches of similar lengths, the longest first.

    A micro-batch holds at most `max_rows` rows, but always one; `lanes` of them together hold at most `max_tokens` tokens
    including padding.
    """
    shared = count_shared(rows) if packed else None
    ordered = sorted(rows, key=lambda row: -len(row.ids))
    ends = cut_evenly([len(row.ids) for row in ordered], max_rows, max_tokens, shared, lanes)
    return [ordered[start:end] for start, end in pairwise([0, *ends])]


def count_shared(rows: Sequence[Row]) -> int:
    """Return how many tokens all rows begin with; each row keeps at least one of its own."""
    first = rows[0].ids
    shared = min(len(row.ids) for row in rows) - 1
    for row in rows[1:]:
        shared = next((index for index in range(shared) if row.ids[index] != first[index]), shared)
    return shared


def pays_to_pack(rows: Sequence[Row], max_length: int, *, ragged: bool) -> bool:
    """Return whether a card gets these rows, the longest first, packed; `ragged` when its attention takes them without padding.

    A plan for a card counts on padded rows, and a packed micro-batch must never take more. Rows that share nothing already
    lie as ragged attention takes them; any others are copied to their places for attention, which must pay for itself.
    """
    if len(rows) == 1:
        return False
    shared = count_shared(rows)
    packed = round_up(sum(len(row.ids) for row in rows) - shared * (len(rows) - 1), PACKED_STEP)
    padded = len(rows) * pad_length(len(rows[0].ids), max_length, packed=False)
    return packed < padded if ragged and not shared else packed <= MOST_PACKED * padded


def collate(rows: Sequence[Row], pad_id: int, device: torch.device, max_length: int, *, packed: bool = False) -> MicroBatch:
    """Return the tensors of one micro-batch. Rows are at most `max_length` long; the longest must be the first.

    `packed` for models whose attention is ours (attention.py); a single row is never packed.
    """
    if packed and len(rows) > 1:
        return _pack(rows, pad_id, device, max_length)
    length = pad_length(len(rows[0].ids), max_length, packed=packed)
    ids = torch.full((len(rows), length), pad_id, dtype=torch.long)
    positions: list[int] = []
    targets: list[int] = []
    for index, row in enumerate(rows):
        ids[index, : len(row.ids)] = torch.tensor(row.ids)
        # The output at one place predicts the id at the next.
        positions += [index * length + target - 1 for target in row.targets]
        targets += [row.ids[target] for target in row.targets]
    return MicroBatch(
        ids=ids.to(device),
        positions=torch.tensor(positions).to(device),
        targets=torch.tensor(targets).to(device),
        tokens=sum(len(row.ids) for row in rows),
    )


def _pack(rows: Sequence[Row], pad_id: int, device: torch.device, max_length: int) -> MicroBatch:
    shared = count_shared(rows)
    length = min(round_length(len(rows[0].ids)), max_length)
    ids = list(rows[0].ids[:shared])
    places = list(range(shared))
    sources: list[int] = []
    positions: list[int] = []
    targets: list[int] = []
    for index, row in enumerate(rows):
        own = len(ids)
        ids += row.ids[shared:]
        places += range(index * length + shared, index * length + len(row.ids))
        in_row = [*range(shared), *range(own, len(ids))]
        sources += in_row + [0] * (length - len(in_row))
        positions += [in_row[target - 1] for target in row.targets]
        targets += [row.ids[target] for target in row.targets]
    used = len(ids)
    padding = round_up(used, PACKED_STEP) - used
    layout = Layout(
        rows=len(rows),
        length=length,
        shared=shared,
        used=used,
        places=torch.tensor(places, device=device),
        sources=torch.tensor(sources, device=device),
        ragged=make_ragged([len(row.ids) for row in rows], shared, device) if device.type == "cuda" else None,
    )
    return MicroBatch(
        ids=torch.tensor([ids + [pad_id] * padding], device=device),
        positions=torch.tensor(positions, device=device),
        targets=torch.tensor(targets, device=device),
        tokens=sum(len(row.ids) for row in rows),
        places=torch.tensor([[place % length for place in places] + [0] * padding], device=device),
        layout=layout,
    )


def make_ragged(lengths: Sequence[int], shared: int, device: torch.device) -> Spread:
    """Return the spread without padding of packed rows of these lengths, which begin with `shared` tokens in common."""
    starts = [0, *accumulate(lengths)]
    sources: list[int] = []
    places = list(range(shared))
    own = shared
    for start, length in zip(starts, lengths, strict=False):
        sources += [*range(shared), *range(own, own + length - shared)]
        places += range(start + shared, start + length)
        own += length - shared
    shared_places = [[start + place for place in range(shared)] for start in starts[:-1]]
    return Spread(
        sources=torch.tensor(sources, device=device),
        places=torch.tensor(places, device=device),
        shared_places=torch.tensor(shared_places, dtype=torch.long, device=device),
        starts=torch.tensor(starts, dtype=torch.int32, device=device),
        longest=max(lengths),
    )
