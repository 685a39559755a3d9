"""Write the usable rows of a file and count what a pass over them finds out; then write each side of the split."""

import hashlib
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from collections.abc import Mapping as Values
from dataclasses import dataclass, field
from itertools import count, repeat
from operator import add
from pathlib import Path

import orjson

from app.contracts.dataset import Mapping, PlainExample, Problem
from app.datasets.cells import make_writable
from app.datasets.detecting import NOTHING, find_split
from app.datasets.examples import make_examples
from app.datasets.ordinary import compile_maker, compile_pair_maker
from app.datasets.reading import SourceFile
from app.datasets.rows import Oddities, Place, RawRow, Watch
from app.datasets.splitting import RowKeys
from app.storage.dataset_dir import DatasetDir

MAX_PROBLEMS = 1000
"""Problems kept in dataset.json; all are counted."""

MOST_LATE_COLUMNS = 100

_FLUSHED_BYTES = 1 << 16
_FLUSHED_PIECES = 256
_PIECE_BYTES = 1 << 20
_FEWEST_PAIRS = 4
"""Fewer records are made into examples sooner one by one."""
_PAIR = b'{"row":%d,"messages":[{"role":"user","content":%b},{"role":"assistant","content":%b}]}\n'
"""What orjson writes for a question with its answer."""


@dataclass
class RowCounts:
    """What one pass over the rows finds out."""

    rows_in_file: int = 0
    skipped_rows: int = 0
    problem_count: int = 0
    problems: list[Problem] = field(default_factory=list)
    characters: "array[int]" = field(default_factory=lambda: array("I"))
    line_bytes: "array[int]" = field(default_factory=lambda: array("I"))
    keys: RowKeys = field(default_factory=RowKeys)
    oddities: Oddities = field(default_factory=Oddities)
    late: dict[str, RawRow] = field(default_factory=dict)
    """Columns of JSON that no record at the beginning has, each with the first that has something there."""

    def add_problems(self, problems: Sequence[Problem]) -> None:
        """Count all, keep the first."""
        self.problem_count += len(problems)
        self.problems += problems[: MAX_PROBLEMS - len(self.problems)]


class _Maker:
    """Makes the lines of usable rows and counts them."""

    def __init__(self, mapping: Mapping, columns: Sequence[str]) -> None:
        self.counts = RowCounts()
        self._known = set(columns)
        self._mapping = mapping
        self._split = mapping.split
        self._make = compile_maker(mapping)
        self._make_pairs = compile_pair_maker(mapping)

    def take(self, row: int, records: Sequence[Values[str, object]]) -> bytes | None:
        """Return the lines of ordinary records; None where there is anything to be said about one of them."""
        if not self._known.issuperset(set().union(*records)):
            for number, record in enumerate(records, row):
                self._note_late(RawRow(number, record))
        try:
            if self._make_pairs is not None and len(records) >= _FEWEST_PAIRS:
                lines = self._write_pairs(row, records)
            else:
                lines = self._write_ordinary(row, records)
        except orjson.JSONEncodeError:  # half a surrogate pair
            return None
        if lines is not None:
            self.counts.rows_in_file += len(records)
        return lines

    def look_at(self, raw: RawRow) -> bytes:
        """Return the lines of any record, and note its problems."""
        if not raw.problems:
            self._note_late(raw)
        examples, problems = make_examples(raw, self._mapping)
        self.counts.add_problems(problems)
        self.counts.skipped_rows += not examples
        self.counts.rows_in_file += 1
        lines = list(map(_write_line, examples))
        for line, example in zip(lines, examples, strict=True):
            self._count(line, example, raw.values)
        return b"".join(lines)

    def _note_late(self, raw: RawRow) -> None:
        for name in raw.values.keys() - self._known:
            if raw.values[name] not in NOTHING and len(self.counts.late) < MOST_LATE_COLUMNS and make_writable(name) == name:
                self.counts.late[name] = raw
                self._known.add(name)

    def _write_pairs(self, row: int, records: Sequence[Values[str, object]]) -> bytes | None:
        found = self._make_pairs(records) if self._make_pairs is not None else None
        if found is None:
            return None
        questions, answers = found
        parts = zip(count(row), map(orjson.dumps, questions), map(orjson.dumps, answers), strict=False)
        lines = [_PAIR % part for part in parts]
        counts, split = self.counts, self._split
        counts.line_bytes.extend(map(len, lines))
        counts.characters.extend(map(add, map(len, questions), map(len, answers)))
        own = repeat(None, len(lines)) if split is None else [find_split(record.get(split)) for record in records]
        counts.keys.add_pairs(questions, answers, own)
        return b"".join(lines)

    def _write_ordinary(self, row: int, records: Sequence[Values[str, object]]) -> bytes | None:
        if self._make is None:
            return None
        examples: list[PlainExample] = []
        for number, record in enumerate(records, row):
            example = self._make(number, record)
            if example is None:
                return None
            examples.append(example)
        lines = [_write_line(example) for example in examples]
        for line, example, record in zip(lines, examples, records, strict=True):
            self._count(line, example, record)
        return b"".join(lines)

    def _count(self, line: bytes, example: PlainExample, values: Values[str, object]) -> None:
        self.counts.keys.add(example, find_split(values.get(self._split)) if self._split else None)
        self.counts.characters.append(_characters(example))
        self.counts.line_bytes.append(len(line))


def write_rows(opened: SourceFile, path: Path, mapping: Mapping, watch: Watch) -> tuple[RowCounts, str]:
    """Write every usable row; return the counts and the SHA-256 of the file."""
    maker, digest, place = _Maker(mapping, opened.columns), hashlib.sha256(), Place()
    size = opened.path.stat().st_size
    lines: list[bytes] = []
    waiting = 0
    with path.open("wb") as file:

        def flush(done_bytes: int) -> None:
            written = b"".join(lines)
            lines.clear()
            digest.update(written)
            file.write(written)
            watch("reading", done_bytes, size)

        for taken in opened.take_rows(maker.take, maker.counts.oddities, place):
            lines.append(taken if isinstance(taken, bytes) else maker.look_at(taken))
            waiting += len(lines[-1])
            if waiting >= _FLUSHED_BYTES or len(lines) >= _FLUSHED_PIECES:
                flush(place.read_bytes())
                waiting = 0
        flush(size)
    return maker.counts, digest.hexdigest()


def write_split(fresh: DatasetDir, heldout: bytearray, line_bytes: "array[int]", watch: Watch) -> None:
    """Write the rows of each side to a file of its own; `heldout` and `line_bytes`: a flag and a length for every row."""
    size = sum(line_bytes)
    with (
        fresh.rows_file.open("rb", buffering=_PIECE_BYTES) as rows,
        fresh.train_file.open("wb", buffering=_PIECE_BYTES) as train,
        fresh.heldout_file.open("wb", buffering=_PIECE_BYTES) as held,
    ):
        done = told = 0
        for is_held, length in _find_runs(heldout, line_bytes):
            side = held if is_held else train
            for start in range(0, length, _PIECE_BYTES):
                side.write(rows.read(min(_PIECE_BYTES, length - start)))
            done += length
            if done - told >= _PIECE_BYTES or done == size:
                watch("splitting", done, size)
                told = done


def _find_runs(heldout: bytearray, line_bytes: "array[int]") -> Iterator[tuple[int, int]]:
    """Yield the flag of rows that stand together on one side, and their bytes."""
    start = 0
    while start < len(heldout):
        flag = heldout[start]
        end = heldout.find(1 - flag, start)
        end = len(heldout) if end < 0 else end
        yield flag, sum(line_bytes[start:end])
        start = end


def _write_line(example: PlainExample) -> bytes:
    return orjson.dumps(example, option=orjson.OPT_APPEND_NEWLINE)


def _characters(example: PlainExample) -> int:
    messages = example.get("messages")
    if messages is None:
        return len(example.get("text", ""))
    count = sum([len(message["content"]) for message in messages])
    rejected = example.get("rejected")
    return count if rejected is None else max(count, sum([len(message["content"]) for message in rejected]))


def quantiles(lengths: "array[int]") -> list[int]:
    """Return the lengths at 0, 5, ..., 100 % of the sorted rows; needs no sorted copy of them."""
    count_of = Counter(lengths)
    places = [round(step / 20 * (len(lengths) - 1)) for step in range(21)]
    found: list[int] = []
    below = 0
    for length in sorted(count_of):
        below += count_of[length]
        while len(found) < len(places) and places[len(found)] < below:
            found.append(length)
    return found
