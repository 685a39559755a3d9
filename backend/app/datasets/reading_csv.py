"""CSV and its relatives, row by row (RFC 4180, with the liberties that spreadsheets take)."""

import csv
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import TextIO

from app.contracts.dataset import Problem
from app.core.errors import DatasetInvalid, TooLarge
from app.datasets.rows import MAX_COLUMNS, MAX_ROW_CHARACTERS, RawRow

DELIMITERS = (",", ";", "\t", "|")

_SAMPLE_CHARACTERS = 1 << 16
_SAMPLE_ROWS = 200

csv.field_size_limit(MAX_ROW_CHARACTERS)


def sniff_delimiter(path: Path, encoding: str) -> str:
    """Return the delimiter under which the first rows fall into the most regular columns; a comma for one column."""
    with path.open(encoding=encoding, newline="") as file:
        sample = file.read(_SAMPLE_CHARACTERS)
        whole = not file.read(1)
    if (declared := _declared_delimiter(sample)) is not None:
        return declared
    best, best_score = ",", (0.0, 0)
    for delimiter in DELIMITERS:
        widths = _widths(sample, delimiter, whole=whole)
        if not widths or widths[0] < 2:
            continue
        regular = sum(width == widths[0] for width in widths) / len(widths)
        if (regular, widths[0]) > best_score:
            best, best_score = delimiter, (regular, widths[0])
    return best


def read_header(path: Path, encoding: str, delimiter: str) -> list[str]:
    """Return the names of the columns: unnamed ones get `column 3`, repeated ones `name (2)`.

    Raise DatasetInvalid (`empty_file`, `too_many_columns`, `bad_header`).
    """
    with path.open(encoding=encoding, newline="") as file:
        _skip_declaration(file)
        try:
            cells = next((cells for cells in csv.reader(file, delimiter=delimiter, strict=True) if any(cells)), None)
        except csv.Error as error:
            raise DatasetInvalid("bad_header", reason=str(error)) from error
    if cells is None:
        raise DatasetInvalid("empty_file")
    while len(cells) > 1 and not cells[-1].strip():
        cells.pop()
    if len(cells) > MAX_COLUMNS:
        raise DatasetInvalid("too_many_columns", columns=len(cells), most=MAX_COLUMNS)
    names: list[str] = []
    for position, cell in enumerate(cells, 1):
        name = plain = cell.strip() or f"column {position}"
        repeat = 1
        while name in names:
            repeat += 1
            name = f"{plain} ({repeat})"
        names.append(name)
    return names


def read_csv_rows(path: Path, encoding: str, delimiter: str, columns: list[str]) -> Iterator[RawRow]:
    """Yield every record after the header; ragged and badly quoted ones come with their problem.

    Raise DatasetInvalid (`open_quote`) where a quotation mark swallows the rest of the file, TooLarge for a row
    beyond MAX_ROW_CHARACTERS.
    """
    with path.open(encoding=encoding, newline="") as file:
        _skip_declaration(file)
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        for cells in reader:
            if any(cells):
                break
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
            if not cells:
                continue
            row += 1
            yield RawRow(row, dict(zip(columns, cells, strict=False)), _ragged(row, cells, columns))


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


def _widths(sample: str, delimiter: str, *, whole: bool) -> list[int]:
    """Numbers of cells of the first rows; the last one is left out where the sample may cut it."""
    widths: list[int] = []
    reader = csv.reader(StringIO(sample, newline=""), delimiter=delimiter)
    try:
        for cells in reader:
            if cells:
                widths.append(len(cells))
            if len(widths) > _SAMPLE_ROWS:
                break
    except csv.Error:
        pass
    return widths if whole or len(widths) < 2 else widths[:-1]


def _declared_delimiter(sample: str) -> str | None:
    """Excel writes `sep=;` as a first line of its own."""
    first = sample.split("\n", 1)[0].rstrip("\r")
    return first[4] if len(first) == 5 and first.lower().startswith("sep=") else None


def _skip_declaration(file: TextIO) -> None:
    if _declared_delimiter(file.read(8)) is None:
        file.seek(0)
        return
    file.seek(0)
    file.readline()
