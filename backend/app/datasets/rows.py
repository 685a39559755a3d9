"""What the readers yield: one record of the file, as it stands there."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from app.contracts.dataset import Problem

MAX_ROW_CHARACTERS = 1 << 26
"""Longest row that is read (64 Mi characters): a lost quotation mark or bracket must not fill the memory."""

MAX_COLUMNS = 2000
"""More columns than this is a table of measurements, not of texts."""


@dataclass(frozen=True, slots=True)
class RawRow:
    """One record. Where `problems` is not empty the record could not be read and `values` is what could be saved."""

    row: int
    """From 1; the header does not count, blank lines neither."""
    values: Mapping[str, object]
    problems: list[Problem] = field(default_factory=list)
