"""How long the rows of a data set are in tokens: counted where the model's tokenizer is here, else from characters."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from app.contracts.dataset import DatasetInfo
from app.core.errors import DatasetInvalid, ModelUnavailable
from app.datasets.tokens import TokenCount, token_counts
from app.planner.run_shape import RowLengths
from app.storage.dataset_dir import DatasetDir

MOST_COUNTED = 2000
"""Rows that are tokenised for a plan (about half a second, in a limited child process); of a larger data set every n-th one."""
CHARACTERS_PER_TOKEN = 3.2
"""Between English (4 and more) and French under an English vocabulary (2.5)."""
TEMPLATE_TOKENS = 24
"""What a chat template adds to a row."""


def measure_lengths(dataset: DatasetDir, info: DatasetInfo, model_path: Path | None) -> RowLengths:
    """Return the lengths of all rows, held-out ones included, for the tokenizer in `model_path`, or an estimate without one."""
    if info.train_rows == 0:
        return RowLengths((), measured=False)
    if counted := [count for count in find_counts(dataset, info, model_path) if count.length]:
        return _summarise(counted, complete=count_every(info) == 1)
    per_row = [max(1, round(count / CHARACTERS_PER_TOKEN)) + TEMPLATE_TOKENS for count in info.row_characters]
    return RowLengths(tuple(per_row), measured=False)


def count_every(info: DatasetInfo) -> int:
    """Return n where every n-th row of a data set is tokenised."""
    return max(1, -(-info.rows // MOST_COUNTED))


def find_counts(dataset: DatasetDir, info: DatasetInfo, model_path: Path | None) -> tuple[TokenCount, ...]:
    """Return the token counts of every n-th row; none where there is no tokenizer, or it or the template does not work."""
    if model_path is None:
        return ()
    return _count(str(dataset.rows_file), info.content_hash, count_every(info), str(model_path))


@lru_cache(maxsize=64)
def _count(rows_file: str, content_hash: str, every: int, model_path: str) -> tuple[TokenCount, ...]:  # noqa: ARG001  the key
    """A tokenizer that does not work is not tried again and again: the start says why."""
    try:
        return tuple(token_counts(Path(rows_file), Path(model_path), every=every))
    except (ModelUnavailable, DatasetInvalid):
        return ()


def _summarise(counts: Sequence[TokenCount], *, complete: bool) -> RowLengths:
    lengths = sorted(count.length for count in counts)
    quantiles = tuple(lengths[round(step * (len(lengths) - 1) / 20)] for step in range(21))
    trained_share = sum(count.trained for count in counts) / sum(lengths)
    # Nearly all: a micro-batch shares what all of its rows begin with.
    shared = sorted(count.shared for count in counts)[len(counts) // 20]
    return RowLengths(quantiles, measured=True, complete=complete, trained_share=trained_share, shared=shared)
