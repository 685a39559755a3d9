"""What the readers yield: one record of the file, as it stands there."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
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


Take = Callable[[int, Sequence[Mapping[str, object]]], bytes | None]
"""Is offered records that follow one another, by the number of the first and their values.

Returns the lines that they become, or None for "look closer": then it is offered fewer of them, at last each by itself.
"""


def take_rows(rows: Iterable[RawRow], take: Take) -> Iterator[RawRow | bytes]:
    """Yield for every record what `take` makes of it, and where that is None the record itself."""
    for raw in rows:
        yield (None if raw.problems else take(raw.row, (raw.values,))) or raw


@dataclass
class Oddities:
    """What a reader steps over or settles by itself: a person is told of it."""

    repeated_headers: int = 0
    """CSV headers that stand again between the rows."""
    repeated_key: tuple[int, str] | None = None
    """The first JSON record that names a key twice, and that key; the last of its values counts (RFC 8259, 4)."""


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
