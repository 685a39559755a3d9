"""How a CSV file is written: delimiter, quotation marks, title lines above the header, and whether there is a header.

Judged on the first 64 Ki characters. Where two readings are equally good, the usual one wins: a comma, `"`, a header.
"""

import csv
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from io import StringIO
from pathlib import Path
from typing import NamedTuple, Protocol

from app.contracts.dataset import CsvDialect

DELIMITERS = (",", ";", "\t", "|")
RARE_DELIMITERS = (":", "^", "~", "\x1f", "\x1e", "\x01", "§", "¦", "#", "&", " ")
"""Only where every line has the same number of them: they occur in ordinary text."""

_SAMPLE_CHARACTERS = 1 << 16
_SAMPLE_ROWS = 200
_MOST_TITLES = 20
_LONGEST_NAME = 80
_NUMBER = re.compile(r"[-+]?[\d\s.,'%€$£]*\d[\d\s.,'%€$£]*([eE][-+]?\d+)?|\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}([ T][\d:.]+Z?)?")
_SENTENCE = re.compile(r"\S+\s+\S+\s+\S.*[.?!…]$", re.DOTALL)
_ESCAPED = re.compile(r'(?<!\\)((?:\\\\)*)\\"')


class Records(Protocol):
    """Python's CSV reader."""

    @property
    def line_num(self) -> int:
        """Lines read so far."""

    def __iter__(self) -> Iterator[list[str]]: ...

    def __next__(self) -> list[str]: ...


class _Reading(NamedTuple):
    """The first records under one dialect."""

    dialect: CsvDialect
    rows: list[list[str]]
    width: int
    """The most frequent number of cells."""
    regular: float
    """Share of the records that have it."""


def sniff_dialect(path: Path, encoding: str) -> tuple[CsvDialect, float]:
    """Return the dialect, and the share of the first records that are equally wide under it (0 for one column)."""
    with path.open(encoding=encoding, newline="") as file:
        sample = file.read(_SAMPLE_CHARACTERS)
        whole = not file.read(1)
    declared = declared_delimiter(sample)
    if declared is not None:
        sample = sample.partition("\n")[2] if "\n" in sample else sample.partition("\r")[2]
        best = _read(sample, CsvDialect(delimiter=declared), whole=whole)
    else:
        best = _best_delimiter(sample, whole=whole)
    best = _best_quoting(best, sample, whole=whole)
    skipped = count_titles(best.rows, best.width)
    rows = best.rows[skipped:]
    dialect = best.dialect.model_copy(update={"skipped": skipped, "header": not rows or _names_columns(rows)})
    return dialect, best.regular if best.width > 1 else 0.0


def declared_delimiter(sample: str) -> str | None:
    """Excel writes `sep=;` as a first line of its own."""
    first = re.split(r"[\r\n]", sample, maxsplit=1)[0]
    return first[4] if len(first) == 5 and first.lower().startswith("sep=") else None


def open_reader(lines: Iterable[str], dialect: CsvDialect) -> Records:
    """Return Python's reader for a dialect; it raises csv.Error on quotation marks out of place."""
    if dialect.backslash:
        lines = (_ESCAPED.sub(r'\1""', line) for line in lines)
    if dialect.quote is None:
        return csv.reader(lines, delimiter=dialect.delimiter, quoting=csv.QUOTE_NONE, strict=True)
    return csv.reader(lines, delimiter=dialect.delimiter, quotechar=dialect.quote, strict=True)


def count_titles(rows: list[list[str]], width: int) -> int:
    """Count the records above the header: titles and comments fill few of the columns that the others have."""
    for number, row in enumerate(rows[: _MOST_TITLES + 1]):
        filled = sum(1 for cell in row if cell.strip())
        title = width > 1 and filled <= 1 and (len(row) == 1 or width > 2)
        title = title or (len(row) < width and filled * 2 < width)
        title = title or (filled == 1 and len(row) == width == 2 and not any(map(str.strip, _next(rows, number))))
        if not title and filled:
            return number
    return 0


def _next(rows: list[list[str]], number: int) -> list[str]:
    """Return the record after another one; a record with text where there is none."""
    return rows[number + 1] if number + 1 < len(rows) else ["-"]


def _best_delimiter(sample: str, *, whole: bool) -> _Reading:
    usual = [_read(sample, CsvDialect(delimiter=delimiter), whole=whole) for delimiter in DELIMITERS]
    found = [reading for reading in usual if reading.width > 1]
    best = max(found, key=lambda reading: (reading.regular, reading.width), default=usual[0])
    if best.width > 1 and best.regular >= 0.9:
        return best
    for delimiter in RARE_DELIMITERS:
        if delimiter not in sample:
            continue
        reading = _read(sample, CsvDialect(delimiter=delimiter), whole=whole)
        names = reading.rows[0] if reading.rows else []
        tidy = all(cell.strip() and len(cell) <= 40 and (delimiter == " " or " " not in cell.strip()) for cell in names)
        if reading.width > 1 and reading.regular == 1 and len(reading.rows) > (2 if delimiter == " " else 1) and tidy:
            return reading
    return best


def _best_quoting(best: _Reading, sample: str, *, whole: bool) -> _Reading:
    """Try other quotation marks where the usual ones explain the sample worse."""
    delimiter = re.escape(best.dialect.delimiter)
    if r"\"" in sample:
        escaped = _read(sample, best.dialect.model_copy(update={"backslash": True}), whole=whole)
        if (escaped.regular, len(escaped.rows)) > (best.regular, len(best.rows)) or _spoiled(sample, best.dialect):
            best = escaped
    elif '"' not in sample and len(re.findall(rf"(?:^|{delimiter})'[^'\r\n]*'(?={delimiter}|\r?$)", sample, re.MULTILINE)) > 1:
        single = _read(sample, best.dialect.model_copy(update={"quote": "'"}), whole=whole)
        if single.regular >= best.regular and not _spoiled(sample, single.dialect):
            best = single
    if best.dialect.delimiter in "\t|" and _spoiled(sample, best.dialect):
        plain = _read(sample, best.dialect.model_copy(update={"quote": None}), whole=whole)
        if plain.regular >= best.regular:
            best = plain
    return best


def _spoiled(sample: str, dialect: CsvDialect) -> bool:
    """Say whether quotation marks stand out of place under a dialect."""
    try:
        for _ in open_reader(StringIO(sample, newline=""), dialect):
            pass
    except csv.Error:
        return True
    return False


def _read(sample: str, dialect: CsvDialect, *, whole: bool) -> _Reading:
    rows = [row for row in _rows(sample, dialect) if row]
    if not whole and len(rows) > 1:
        rows.pop()  # the sample may cut it
    widths = Counter(len(row) for row in rows)
    width, count = max(widths.items(), key=lambda item: (item[1], item[0]), default=(1, 0))
    if width == 1 and len(widths) > 1 and len(rows[0]) > 1:
        width, count = len(rows[0]), widths[len(rows[0])]
    return _Reading(dialect, rows, width, count / max(1, len(rows)))


def _rows(sample: str, dialect: CsvDialect) -> Iterator[list[str]]:
    reader = open_reader(StringIO(sample, newline=""), dialect)
    for _ in range(_SAMPLE_ROWS):
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error:
            continue
        yield row


def _names_columns(rows: list[list[str]]) -> bool:
    """Say whether the first record names the columns: it is no data if any cell of it is neither number nor sentence."""
    first = [cell.strip() for cell in rows[0] if cell.strip()]
    if all(_NUMBER.fullmatch(cell) for cell in first):
        return False
    if len(rows) == 1 and len(first) == 1:
        return True
    sentences = [cell for cell in first if len(cell) > _LONGEST_NAME or _SENTENCE.fullmatch(cell)]
    return len(sentences) * 2 < len(first) if len(first) > 1 else not sentences
