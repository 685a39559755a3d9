"""Encoded rows in one file, read one by one: what a run holds in memory does not grow with its rows.

The file, all numbers little-endian:
    records     one per row, of uint32: the row's number in the imported file (top bit: an answer to avoid), then the id
                of each token (top bit: it is learned)
    starts      uint64, rows + 1: where each record starts, counted in uint32
    summary     whatever the writer says about the rows
    tail        uint64, two: number of rows, bytes of the summary

Rows are read with `pread`: their pages belong to the system's cache and not to the process, as those of a memory map
would. 8 bytes a row stay in memory.
"""

import os
import sys
import weakref
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, overload

import numpy as np
import numpy.typing as npt

from app.storage.job_dir import fsync_folder
from app.training.batching import Row

MARK = 1 << 31
_WORD_BYTES, _START_BYTES = 4, 8

assert sys.byteorder == "little", "the file is written and read as it lies in memory"


class RowFile(Sequence[Row]):
    """The rows of a finished file, in the order in which they were written."""

    def __init__(self, path: Path) -> None:
        """Open `path`. Raises FileNotFoundError, ValueError for a file that is none of this kind."""
        self._descriptor = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._descriptor)
        tail_at = os.fstat(self._descriptor).st_size - 2 * _START_BYTES
        rows, summary_bytes = np.frombuffer(self._read(tail_at, 2 * _START_BYTES), np.uint64).tolist()
        summary_at = tail_at - summary_bytes
        starts_at = summary_at - (rows + 1) * _START_BYTES
        self.summary = self._read(summary_at, summary_bytes)
        self._starts: npt.NDArray[np.uint64] = np.frombuffer(self._read(starts_at, summary_at - starts_at), np.uint64)
        if int(self._starts[-1]) * _WORD_BYTES != starts_at:
            raise ValueError(f"{path.name}: no file of rows")

    @property
    def lengths(self) -> list[int]:
        """Tokens of each row."""
        lengths: list[int] = (np.diff(self._starts) - 1).tolist()
        return lengths

    def __len__(self) -> int:
        return len(self._starts) - 1

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        place = range(len(self))[index]
        start, end = int(self._starts[place]) * _WORD_BYTES, int(self._starts[place + 1]) * _WORD_BYTES
        words = np.frombuffer(self._read(start, end - start), np.uint32)
        number, tokens = int(words[0]), words[1:]
        return Row(
            ids=(tokens & (MARK - 1)).tolist(),
            targets=np.flatnonzero(tokens & MARK).tolist(),
            row=number & (MARK - 1),
            desired=not number & MARK,
        )

    def _read(self, at: int, size: int) -> bytes:
        found = os.pread(self._descriptor, size, at) if at >= 0 and size >= 0 else b""
        if len(found) != size:
            raise ValueError("a file of rows that ends too early")
        return found


class RowWriter:
    """Takes rows one after the other."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._starts = array("Q", [0])

    def add(self, row: Row) -> None:
        """Write `row`. Its ids and its number are below 2^31."""
        words = np.empty(1 + len(row.ids), np.uint32)
        words[0] = row.row if row.desired else row.row | MARK
        words[1:] = row.ids
        words[1:][row.targets] |= np.uint32(MARK)
        self._file.write(words.tobytes())
        self._starts.append(self._starts[-1] + len(words))

    def finish(self, summary: bytes) -> None:
        """Write what follows the rows."""
        self._file.write(self._starts.tobytes() + summary + array("Q", [len(self._starts) - 1, len(summary)]).tobytes())


@contextmanager
def write_rows(path: Path) -> Iterator[RowWriter]:
    """Write a file of rows; call `finish` last. It gets its name once it is whole and on the disk; no other writer may be at
    work on it.

    Raises OSError (disk full); then, or when the block fails, nothing is left of it.
    """
    path.parent.mkdir(mode=0o700, exist_ok=True)
    aside = path.with_name(f".{path.name}.tmp")
    try:
        with aside.open("wb", buffering=1 << 20) as file:
            yield RowWriter(file)
            file.flush()
            os.fsync(file.fileno())
        aside.rename(path)
    finally:
        aside.unlink(missing_ok=True)
    fsync_folder(path.parent)


def longest_first(rows: Sequence[Row], count: int) -> Iterator[list[Row]]:
    """Yield `rows` in lists of `count`, over all lists the longest rows first; rows of a file are read with their list."""
    lengths = rows.lengths if isinstance(rows, RowFile) else [len(row.ids) for row in rows]
    order = sorted(range(len(rows)), key=lambda place: -lengths[place])
    for start in range(0, len(order), count):
        yield [rows[place] for place in order[start : start + count]]
