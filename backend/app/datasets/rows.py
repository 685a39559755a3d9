"""What the readers yield: one record of the file, as it stands there."""

import os
from collections.abc import Mapping, Sequence
from typing import IO, Any, Literal, NamedTuple, Protocol

from app.contracts.dataset import Problem

MAX_ROW_CHARACTERS = 1 << 26
"""Longest row that is read (64 Mi characters): a lost quotation mark or bracket must not fill the memory."""

MAX_COLUMNS = 2000
"""More columns than this is a table of measurements, not of texts."""


class RawRow(NamedTuple):
    """One record. Where `problems` is not empty the record could not be read and `values` is what could be saved."""

    row: int
    """From 1; the header does not count, blank lines neither."""
    values: Mapping[str, object]
    problems: Sequence[Problem] = ()


class Place:
    """How far a reader is in its file."""

    def __init__(self) -> None:
        self._file: IO[Any] | None = None
        self._last = 0

    def follow(self, file: IO[Any]) -> None:
        """Read the place from this file from now on."""
        self._file = file

    def read_bytes(self) -> int:
        """Return the bytes taken from the file so far (a block ahead of the rows)."""
        if self._file is not None and not self._file.closed:
            self._last = os.lseek(self._file.fileno(), 0, os.SEEK_CUR)
        return self._last


Stage = Literal["unpacking", "reading", "splitting"]


class Watch(Protocol):
    """Is told how far an import is; what it raises breaks the import off."""

    def __call__(self, stage: Stage, done_bytes: int, total_bytes: int) -> None: ...


def unwatched(stage: Stage, done_bytes: int, total_bytes: int) -> None:
    """Let the import go on."""
