"""Rows of a job become token ids, once: they lie in a file of the job's folder, and a resumed run finds them there."""

import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from app.contracts.dataset import Example
from app.contracts.frozen import Frozen
from app.contracts.options import LongRows
from app.core.errors import DatasetChanged, DatasetInvalid
from app.datasets.render import Renderer
from app.datasets.tokenizer_files import fingerprint
from app.training.batching import Row
from app.training.judged import encode_judged
from app.training.row_file import RowFile, RowWriter, write_rows

log = logging.getLogger(__name__)

FORMAT = 1
"""Raised when encoding gives other rows for the same job, or the file looks different."""
ROWS_TOGETHER, BYTES_TOGETHER = 512, 1 << 20
"""Rows that are tokenised in one call, and their bytes, of which one row may have more."""
WHOLE_ROW = 1 << 40
"""Tokens at which nothing is cut."""


class Counts(Frozen):
    """What encoding found out."""

    key: str = ""
    """SHA-256 of all that the rows depend on."""
    content: str = ""
    """SHA-256 of the rows as they lie in the job's folder; empty in files of versions that did not note it."""
    tokens: int = 0
    """All tokens of the rows."""
    trained_tokens: int = 0
    """Tokens whose loss counts."""
    truncated: int = 0
    """Rows that were cut at max_length and are still used."""
    dropped: int = 0
    """Rows longer than max_length that were left out as `long_rows` asked."""
    untrained: int = 0
    """Rows left out because no token in them is learned (no answer, or the cut removed it)."""
    unrenderable: int = 0
    """Rows left out because the model's chat template cannot write them."""
    divided: int = 0
    """Rows longer than max_length that became several, as `long_rows` asked."""


@dataclass(frozen=True, slots=True)
class EncodedRows:
    """Rows that can be trained, and how many were changed or left out."""

    rows: RowFile
    counts: Counts


def encode_rows(
    file: Path,
    encoded: Path,
    renderer: Renderer,
    *,
    max_length: int,
    long_rows: LongRows,
    check_stop: Callable[[], None],
    judged: bool = False,
    must_be_same: bool = False,
) -> EncodedRows:
    """Return the Examples of `file` (one per line) as rows that lie in the file `encoded`; `judged` ones as judged.py says.

    Rows that are there already are used when they were made from the same content with the same tokenizer and limits. (A
    template may write today's date: a run that goes on tomorrow keeps yesterday's.) With `must_be_same`, raises DatasetChanged
    where those that are there were made from another content. `check_stop` is called before each block of rows and may raise.
    Raises OSError (disk full).
    """
    with file.open("rb") as rows:
        content = hashlib.file_digest(rows, "sha256")
    key = _key(content.copy(), renderer, max_length, f"{long_rows} judged" if judged else long_rows)
    found = _find(encoded)
    if found is not None and found.counts.key == key:
        log.info("%s holds the rows of an earlier attempt", encoded.name)
        return found
    if must_be_same and found is not None and found.counts.content not in ("", content.hexdigest()):
        raise DatasetChanged("attempts")
    with write_rows(encoded) as writer:
        blocks = _read_blocks(file, check_stop)
        if judged:
            counts = _encode_judged(blocks, writer, renderer, max_length, long_rows)
        else:
            counts = _encode(blocks, writer, renderer, max_length, long_rows)
        writer.finish(counts.model_copy(update={"key": key, "content": content.hexdigest()}).model_dump_json().encode())
    found = _find(encoded)
    assert found is not None, "it was just written"
    return found


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


def _encode(
    blocks: Iterable[list[Example]], writer: RowWriter, renderer: Renderer, max_length: int, long_rows: LongRows
) -> Counts:
    numbers = Counter[str]()
    limit = WHOLE_ROW if long_rows == "split" else max_length
    for examples in blocks:
        for example, encoded in zip(examples, renderer.encode_all(examples, limit), strict=True):
            if isinstance(encoded, DatasetInvalid):
                numbers["unrenderable"] += 1
                continue
            too_long = encoded.full_length > max_length
            if too_long and long_rows == "drop":
                numbers["dropped"] += 1
                continue
            pieces = divide(encoded.ids, encoded.trained, max_length, example.row)
            if not pieces:
                numbers["untrained"] += 1
            elif too_long:
                numbers["truncated" if long_rows == "truncate" else "divided"] += 1
            for row in pieces:
                writer.add(row)
                numbers["tokens"] += len(row.ids)
                numbers["trained_tokens"] += len(row.targets)
    return Counts(**numbers)


def _encode_judged(
    blocks: Iterable[list[Example]], writer: RowWriter, renderer: Renderer, max_length: int, long_rows: LongRows
) -> Counts:
    """As `_encode`, but an answer that is too long is cut or left out, never divided: its parts have no meaning alone."""
    numbers = Counter[str]()
    for example in chain.from_iterable(blocks):
        try:
            found = encode_judged(renderer, example, max_length)
        except DatasetInvalid:
            numbers["unrenderable"] += 1
            continue
        if found.too_long and long_rows == "drop":
            numbers["dropped"] += 1
            continue
        numbers["untrained" if not found.rows else "truncated" if found.too_long else "whole"] += 1
        for row in found.rows:
            writer.add(row)
            numbers["tokens"] += len(row.ids)
            numbers["trained_tokens"] += len(row.targets)
    del numbers["whole"]
    return Counts(**numbers)


def _read_blocks(file: Path, check_stop: Callable[[], None]) -> Iterator[list[Example]]:
    block: list[Example] = []
    size = 0
    with file.open("rb") as lines:
        for line in lines:
            block.append(Example.model_validate_json(line))
            size += len(line)
            if len(block) == ROWS_TOGETHER or size >= BYTES_TOGETHER:
                check_stop()
                yield block
                block, size = [], 0
    check_stop()
    if block:
        yield block


def _key(digest: "hashlib._Hash", renderer: Renderer, max_length: int, kind: str) -> str:
    digest.update(f"{FORMAT} {fingerprint(renderer.folder)} {max_length} {kind}".encode())
    return digest.hexdigest()


def _find(encoded: Path) -> EncodedRows | None:
    try:
        rows = RowFile(encoded)
        return EncodedRows(rows, Counts.model_validate_json(rows.summary))
    except (FileNotFoundError, ValueError):
        return None
