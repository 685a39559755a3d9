"""CSV and its relatives, row by row (RFC 4180, with the liberties that spreadsheets take)."""

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from app.contracts.dataset import CsvDialect, Problem
from app.core.errors import DatasetInvalid, TooLarge
from app.datasets.csv_dialect import declared_delimiter, open_reader
from app.datasets.rows import MAX_COLUMNS, MAX_ROW_CHARACTERS, Oddities, Place, RawRow

_RULE = re.compile(r"\s*(?::?-+:?\s*)?")

csv.field_size_limit(MAX_ROW_CHARACTERS)


def read_header(path: Path, encoding: str, dialect: CsvDialect) -> list[str]:
    """Return the names of the columns: unnamed ones get `column 3`, repeated ones `name (2)`.

    Raise DatasetInvalid (`empty_file`, `too_many_columns`, `bad_header`).
    """
    with path.open(encoding=encoding, newline="") as file:
        _skip_declaration(file)
        records = (cells for cells in open_reader(_lines(file), dialect) if cells)
        try:
            cells = next((cells for number, cells in enumerate(records) if number >= dialect.skipped and any(cells)), None)
        except csv.Error as error:
            raise DatasetInvalid("bad_header", reason=str(error)) from error
    if cells is None:
        raise DatasetInvalid("empty_file")
    while len(cells) > 1 and not cells[-1].strip():
        cells.pop()
    if len(cells) > MAX_COLUMNS:
        raise DatasetInvalid("too_many_columns", columns=len(cells), most=MAX_COLUMNS)
    return name_columns(cells if dialect.header else [""] * len(cells))


def read_csv_rows(  # noqa: PLR0912, PLR0917 - what a CSV file is, then two who watch
    path: Path,
    encoding: str,
    dialect: CsvDialect,
    columns: list[str],
    oddities: Oddities | None = None,
    place: Place | None = None,
) -> Iterator[RawRow]:
    """Yield every record after the header; ragged and badly quoted ones come with their problem.

    A header that is repeated between the rows is no row: `oddities` counts it. Raise DatasetInvalid
    (`open_quote`) where a quotation mark swallows the rest of the file, TooLarge for a row beyond MAX_ROW_CHARACTERS.
    """
    with path.open(encoding=encoding, newline="") as file:
        if place is not None:
            place.follow(file)
        _skip_declaration(file)
        reader = open_reader(_lines(file), dialect)
        above = dialect.skipped
        header: list[str] | None = None
        row = 0
        while True:
            first_line = reader.line_num + 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                row += 1
                if "field larger" in str(error):
                    raise TooLarge("row", row=row, most=MAX_ROW_CHARACTERS) from error
                if "end of data" in str(error):
                    raise DatasetInvalid("open_quote", line=first_line, row=row) from error
                params = {"first_line": first_line, "last_line": reader.line_num}
                yield RawRow(row, {}, [Problem(row=row, column=None, key="bad_quotes", params=params)])
                continue
            except _LongLine as error:
                raise TooLarge("row", row=row + 1, most=MAX_ROW_CHARACTERS) from error
            if not cells:
                continue
            if above:
                above -= 1
                continue
            if dialect.header and header is None:
                header = cells if any(cells) else None
                continue
            if cells == header:
                if oddities is not None:
                    oddities.repeated_headers += 1
                continue
            if row == 0 and dialect.delimiter == "|" and _is_rule(cells):
                continue
            row += 1
            yield RawRow(row, dict(zip(columns, cells, strict=False)), _ragged(row, cells, columns))


class _LongLine(Exception):
    """A line is longer than any row may be."""


def _lines(file: TextIO) -> Iterator[str]:
    while line := file.readline(MAX_ROW_CHARACTERS + 1):
        if len(line) > MAX_ROW_CHARACTERS:
            raise _LongLine
        yield line


def name_columns(cells: list[str]) -> list[str]:
    """Return a name of its own for every column: `column 3` for an unnamed one, `name (2)` for a repeated one."""
    names: dict[str, None] = {}
    for position, cell in enumerate(cells, 1):
        name = plain = cell.strip() or f"column {position}"
        repeat = 1
        while name in names:
            repeat += 1
            name = f"{plain} ({repeat})"
        names[name] = None
    return list(names)


def _is_rule(cells: list[str]) -> bool:
    """Say whether a record is the line that Markdown draws below a header."""
    return any(cells) and all(_RULE.fullmatch(cell) for cell in cells)


def _ragged(row: int, cells: list[str], columns: list[str]) -> list[Problem]:
    if not any(cell.strip() for cell in cells):
        return [Problem(row=row, column=None, key="empty_row")]
    found, expected = len(cells), len(columns)
    if found < expected:
        missing = columns[found]
        return [Problem(row=row, column=missing, key="cells_missing", params={"found": found, "expected": expected})]
    if any(cell.strip() for cell in cells[expected:]):
        return [Problem(row=row, column=columns[-1], key="cells_surplus", params={"found": found, "expected": expected})]
    return []


def _skip_declaration(file: TextIO) -> None:
    if declared_delimiter(file.read(8)) is None:
        file.seek(0)
        return
    file.seek(0)
    file.readline()
