"""Rows become token ids, epochs become optimizer steps, steps become micro-batches.

The order of the rows is a pure function of seed and epoch, so a resumed run needs no stored order. Inside one optimizer
step rows are sorted by length and cut into micro-batches: as losses are summed over tokens and divided once per step,
any such split gives the same gradient.

A micro-batch is padded, (rows, length), or packed: the rows one behind the other without padding, and the tokens that all
of them begin with (a chat template's system message, say) only once, because what a causal model makes of them does not
depend on what follows. A row's attention sees that beginning and the row alone, so the loss and its gradient are the same.
"""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from app.contracts.dataset import Example
from app.contracts.options import LongRows
from app.core.errors import DatasetInvalid
from app.datasets.render import Renderer

LENGTH_STEP = 16
"""Rows are padded to a multiple of this many tokens. Matrix products like round sizes, and few different sizes
leave few holes in the heap (embedded model, rows of 60 to 95 tokens, two cores: 344 -> 425 tokens/s, 982 -> 789 MB kept)."""
PACKED_STEP = 32
"""Packed micro-batches are padded to a multiple of this many tokens, as a whole: all their products but those of attention
have this size. Each new size is machine code to be written and kept (planner/prepared.py)."""
PLACES_PER_TOKEN = 2
"""Attention's rows may have so many places for each token of the limit: shared tokens stand in each of them."""


WHOLE_ROW = 1 << 40
"""Tokens at which nothing is cut."""


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
class EncodedRows:
    """Rows that can be trained, and how many were changed or left out."""

    rows: list[Row]
    truncated: int
    """Rows that were cut at max_length and are still used."""
    dropped: int
    """Rows longer than max_length that were left out as `long_rows` asked."""
    untrained: int
    """Rows left out because no token in them is learned (no answer, or the cut removed it)."""
    unrenderable: int
    """Rows left out because the model's chat template cannot write them."""
    divided: int = 0
    """Rows longer than max_length that became several, as `long_rows` asked."""

    @property
    def tokens(self) -> int:
        """All tokens of the rows."""
        return sum(len(row.ids) for row in self.rows)

    @property
    def trained_tokens(self) -> int:
        """Tokens whose loss counts."""
        return sum(len(row.targets) for row in self.rows)


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


def encode_rows(
    file: Path, renderer: Renderer, max_length: int, long_rows: LongRows, check_stop: Callable[[], None]
) -> EncodedRows:
    """Read `file` (one Example per line) and encode it. `check_stop` is called for each row and may raise."""
    rows: list[Row] = []
    truncated = dropped = untrained = unrenderable = divided = 0
    limit = WHOLE_ROW if long_rows == "split" else max_length
    with file.open("rb") as lines:
        for line in lines:
            check_stop()
            try:
                example = Example.model_validate_json(line)
                encoded = renderer.encode(example, limit)
            except DatasetInvalid:
                unrenderable += 1
                continue
            too_long = encoded.full_length > max_length
            if too_long and long_rows == "drop":
                dropped += 1
                continue
            pieces = divide(encoded.ids, encoded.trained, max_length, example.row)
            untrained += not pieces
            truncated += too_long and long_rows == "truncate" and bool(pieces)
            divided += too_long and long_rows == "split" and bool(pieces)
            rows += pieces
    return EncodedRows(rows, truncated, dropped, untrained, unrenderable, divided)


def divide(ids: Sequence[int], trained: Sequence[bool], max_length: int, row: int = 0) -> list[Row]:
    """Return `ids` as rows of at most `max_length` (2 or more) tokens; `trained[i]` says whether token i is learned.

    The last token of a row is also the first of the next, where it only precedes: so each learned token but the very
    first is learned once. A row sees nothing of the one before it. Rows that hold nothing to learn are left out.
    """
    rows = []
    for start in range(0, max(1, len(ids) - 1), max_length - 1):
        stop = min(start + max_length, len(ids))
        targets = [index - start for index in range(start + 1, stop) if trained[index]]
        if targets:
            # What follows the last learned token predicts nothing.
            rows.append(Row(list(ids[start : start + targets[-1] + 1]), targets, row))
    return rows


def steps_per_epoch(rows: int, rows_per_step: int) -> int:
    """Return optimizer steps per epoch; the last one may hold fewer rows."""
    return math.ceil(rows / rows_per_step)


def epoch_order(rows: int, seed: int, epoch: int) -> list[int]:
    """Return the order of the rows in `epoch` (from 0)."""
    order = list(range(rows))
    random.Random(f"{seed}:{epoch}").shuffle(order)  # noqa: S311  reproducible on purpose
    return order


def split(rows: Sequence[Row], max_rows: int, max_tokens: int | None, *, packed: bool = False) -> list[list[Row]]:
    """Cut the rows of one step into micro-batches of similar lengths, the longest first.

    A micro-batch holds at most `max_rows` rows and `max_tokens` tokens including padding, but always one row.
    """
    batches: list[list[Row]] = []
    for row in sorted(rows, key=lambda row: -len(row.ids)):
        if batches and len(batches[-1]) < max_rows:
            more = [*batches[-1], row]
            if max_tokens is None or count_tokens(more, packed=packed) <= max_tokens:
                batches[-1] = more
                continue
        batches.append([row])
    return batches


def count_tokens(rows: Sequence[Row], *, packed: bool) -> int:
    """Return the tokens that a micro-batch of these rows, the longest first, counts for the limit."""
    longest = len(rows[0].ids)
    if not packed:
        return longest * len(rows)
    tokens = sum(len(row.ids) for row in rows) - count_shared(rows) * (len(rows) - 1)
    return max(tokens, round_length(longest) * len(rows) // PLACES_PER_TOKEN)


def count_shared(rows: Sequence[Row]) -> int:
    """Return how many tokens all rows begin with; each row keeps at least one of its own."""
    first = rows[0].ids
    shared = min(len(row.ids) for row in rows) - 1
    for row in rows[1:]:
        shared = next((index for index in range(shared) if row.ids[index] != first[index]), shared)
    return shared


def round_length(length: int) -> int:
    """Return the length that attention pads packed rows of `length` tokens to: a round one, and few different ones."""
    step = LENGTH_STEP if length <= 8 * LENGTH_STEP else 2 * LENGTH_STEP if length <= 16 * LENGTH_STEP else 4 * LENGTH_STEP
    return math.ceil(length / step) * step


def collate(rows: Sequence[Row], pad_id: int, device: torch.device, max_length: int, *, packed: bool = False) -> MicroBatch:
    """Return the tensors of one micro-batch. Rows are at most `max_length` long; the longest must be the first.

    `packed` for models whose attention is ours (attention.py); a single row is never packed.
    """
    if packed and len(rows) > 1:
        return _pack(rows, pad_id, device, max_length)
    length = min(math.ceil(len(rows[0].ids) / LENGTH_STEP) * LENGTH_STEP, max_length)
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
    padding = -used % PACKED_STEP
    layout = Layout(
        rows=len(rows),
        length=length,
        shared=shared,
        used=used,
        places=torch.tensor(places, device=device),
        sources=torch.tensor(sources, device=device),
    )
    return MicroBatch(
        ids=torch.tensor([ids + [pad_id] * padding], device=device),
        positions=torch.tensor(positions, device=device),
        targets=torch.tensor(targets, device=device),
        tokens=sum(len(row.ids) for row in rows),
        places=torch.tensor([[place % length for place in places] + [0] * padding], device=device),
        layout=layout,
    )
