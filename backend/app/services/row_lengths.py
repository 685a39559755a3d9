"""How long the rows of a data set are in tokens: counted where the model's tokenizer is here, else from characters."""

from functools import lru_cache
from itertools import islice
from pathlib import Path

from app.contracts.dataset import DatasetInfo, Example
from app.core.errors import DatasetInvalid, ModelUnavailable
from app.datasets.render import Renderer
from app.planner.run_shape import RowLengths
from app.storage.dataset_dir import DatasetDir

MOST_COUNTED = 2000
"""Rows that are tokenised for a plan (about half a second); of a larger data set every n-th one."""
CHARACTERS_PER_TOKEN = 3.2
"""Between English (4 and more) and French under an English vocabulary (2.5)."""
TEMPLATE_TOKENS = 24
"""What a chat template adds to a row."""
WHOLE_ROW = 1 << 20


def measure_lengths(dataset: DatasetDir, info: DatasetInfo, model_path: Path | None) -> RowLengths:
    """Return the lengths of all rows, held-out ones included, for the tokenizer in `model_path`, or an estimate without one."""
    if info.train_rows == 0:
        return RowLengths((), measured=False)
    if model_path is not None:
        counted = _count(str(dataset.rows_file), info.content_hash, info.rows, str(model_path))
        if counted is not None:
            return counted
    per_row = [max(1, round(count / CHARACTERS_PER_TOKEN)) + TEMPLATE_TOKENS for count in info.row_characters]
    return RowLengths(tuple(per_row), measured=False)


@lru_cache(maxsize=64)
def _count(rows_file: str, content_hash: str, rows: int, model_path: str) -> RowLengths | None:  # noqa: ARG001  the key
    """Return measured lengths; None when the tokenizer cannot be read (the start says why)."""
    try:
        renderer = Renderer.load(Path(model_path))
    except ModelUnavailable:
        return None
    lengths: list[int] = []
    trained = total = 0
    every = max(1, -(-rows // MOST_COUNTED))
    with Path(rows_file).open("rb") as lines:
        for line in islice(lines, 0, None, every):
            try:
                encoded = renderer.encode(Example.model_validate_json(line), WHOLE_ROW)
            except DatasetInvalid:
                continue
            lengths.append(encoded.full_length)
            total += len(encoded.ids)
            trained += sum(encoded.trained)
    if not lengths:
        return None
    lengths.sort()
    quantiles = tuple(lengths[round(step * (len(lengths) - 1) / 20)] for step in range(21))
    return RowLengths(quantiles, measured=True, complete=every == 1, trained_share=trained / max(1, total))
