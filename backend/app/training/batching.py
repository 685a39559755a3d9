"""Rows become token ids, epochs become optimizer steps, steps become micro-batches.

The order of the rows is a pure function of seed and epoch, so a resumed run needs no stored order. Inside one optimizer
step rows are sorted by length and cut into micro-batches: as losses are summed over tokens and divided once per step,
any such split gives the same gradient.
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
"""Micro-batches are padded to a multiple of this many tokens. Matrix products like round sizes, and few different sizes
leave few holes in the heap (embedded model, rows of 60 to 95 tokens, two cores: 344 -> 425 tokens/s, 982 -> 789 MB kept)."""


WHOLE_ROW = 1 << 40
"""Tokens at which nothing is cut."""


@dataclass(frozen=True, slots=True)
class Row:
    """One example as ids. `targets` are the indices of the ids that are learned (never 0: nothing precedes it)."""

    ids: list[int]
    targets: list[int]


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
class MicroBatch:
    """Tensors for one forward pass, padded on the right."""

    ids: Tensor
    """(rows, length), int64."""
    positions: Tensor
    """Indices into the flattened ids whose output predicts `targets`."""
    targets: Tensor
    tokens: int
    """Real tokens, without padding."""


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
                encoded = renderer.encode(Example.model_validate_json(line), limit)
            except DatasetInvalid:
                unrenderable += 1
                continue
            too_long = encoded.full_length > max_length
            if too_long and long_rows == "drop":
                dropped += 1
                continue
            pieces = divide(encoded.ids, encoded.trained, max_length)
            untrained += not pieces
            truncated += too_long and long_rows == "truncate" and bool(pieces)
            divided += too_long and long_rows == "split" and bool(pieces)
            rows += pieces
    return EncodedRows(rows, truncated, dropped, untrained, unrenderable, divided)


def divide(ids: Sequence[int], trained: Sequence[bool], max_length: int) -> list[Row]:
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
            rows.append(Row(list(ids[start : start + targets[-1] + 1]), targets))
    return rows


def steps_per_epoch(rows: int, rows_per_step: int) -> int:
    """Return optimizer steps per epoch; the last one may hold fewer rows."""
    return math.ceil(rows / rows_per_step)


def epoch_order(rows: int, seed: int, epoch: int) -> list[int]:
    """Return the order of the rows in `epoch` (from 0)."""
    order = list(range(rows))
    random.Random(f"{seed}:{epoch}").shuffle(order)  # noqa: S311  reproducible on purpose
    return order


def split(rows: Sequence[Row], max_rows: int, max_tokens: int | None) -> list[list[Row]]:
    """Cut the rows of one step into micro-batches of similar lengths, the longest first.

    A micro-batch holds at most `max_rows` rows and `max_tokens` tokens including padding, but always one row.
    """
    batches: list[list[Row]] = []
    for row in sorted(rows, key=lambda row: -len(row.ids)):
        if batches:
            last = batches[-1]
            padded = len(last[0].ids) * (len(last) + 1)
            if len(last) < max_rows and (max_tokens is None or padded <= max_tokens):
                last.append(row)
                continue
        batches.append([row])
    return batches


def collate(rows: Sequence[Row], pad_id: int, device: torch.device, max_length: int) -> MicroBatch:
    """Return the tensors of one micro-batch. Rows are at most `max_length` long, and padding does not go beyond either."""
    longest = max(len(row.ids) for row in rows)
    length = min(math.ceil(longest / LENGTH_STEP) * LENGTH_STEP, max_length)
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
