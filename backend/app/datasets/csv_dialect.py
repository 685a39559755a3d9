"""How a CSV file is written: delimiter, quotation marks, title lines above the header, and whether there is a header.

Judged on the first 64 Ki characters: every way of writing that leaves a trace there is tried, and the one that explains most
records wins. Where two are equally good, the usual one wins: a comma, `"`, a header.
"""

import csv
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from io import StringIO
from pathlib import Path
from typing import NamedTuple, Protocol

from app.contracts.dataset import CsvDialect
from app.datasets.detecting import is_known_name

DELIMITERS = (",", ";", "\t", "|")
RARE_DELIMITERS = ("^", "~", "\x1f", "\x1e", "\x01", "§", "¦", ":", "#", "&", " ")
"""Only where every line has the same number of them: they occur in ordinary text."""
_BETWEEN_WORDS = (":", "#", "&", " ")
"""Of them, those that stand among the words of a sentence: then every name of a column is a single word."""
PUNCTUATION = (",", ";", ":")
"""They stand in sentences, too."""

_SAMPLE_CHARACTERS = 1 << 16
_MOST_TITLES = 20
_LONGEST_NAME = 80
_REGULAR = 0.9
"""From this share of records explained, and of equal width, a file is a table without doubt."""
_NUMBER = re.compile(r"[-+]?[\d\s.,'%€$£]*\d[\d\s.,'%€$£]*([eE][-+]?\d+)?|\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}([ T][\d:.]+Z?)?")
_SENTENCE = re.compile(r"\S+\s+\S+\s+\S.*[.?!…]$", re.DOTALL)
_PLAIN_NAME = re.compile(r"[^\W\d][\w.-]*")
_BACKSLASH = re.compile(r"\\(.?)", re.DOTALL)
_NEVER = "\0"
"""Stands in no file: what Python's reader takes for the delimiter where there is none."""


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
    """Share of the records that have it; records with quotation marks out of place count as others."""


def sniff_dialect(path: Path, encoding: str) -> tuple[CsvDialect, float]:
    """Return the dialect, and the share of the first records that are equally wide under it (0 for one column)."""
    with path.open(encoding=encoding, newline="") as file:
        sample = file.read(_SAMPLE_CHARACTERS)
        whole = not file.read(1)
    declared = declared_delimiter(sample)
    if declared is not None:
        sample = sample.partition("\n")[2] if "\n" in sample else sample.partition("\r")[2]
        best = _best_quoting(declared, sample, whole=whole)
    else:
        best = _best_delimiter(sample, whole=whole)
        if _is_one_column(best):
            return _describe_one_column(best, sample, whole=whole), 0.0
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
    delimiter = dialect.delimiter or _NEVER
    escape = None
    if dialect.backslash:
        escape = "\\"
        lines = map(_Escapes(dialect).double_lone, lines)
    if dialect.quote is None:
        return csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE, escapechar=escape, strict=True)
    return csv.reader(
        lines, delimiter=delimiter, quotechar=dialect.quote, escapechar=escape, skipinitialspace=dialect.spaced, strict=True
    )


class _Escapes:
    """Backslashes as writers of CSV mean them: before a quotation mark, a delimiter and each other. `C:\\new` holds one."""

    def __init__(self, dialect: CsvDialect) -> None:
        quotes = dialect.quote if dialect.quote is not None else "\r\n"
        self._known = {"\\", dialect.delimiter, *quotes}

    def double_lone(self, line: str) -> str:
        """Return a line in which every backslash that means itself stands twice."""
        return _BACKSLASH.sub(self._double, line) if "\\" in line else line

    def _double(self, found: re.Match[str]) -> str:
        return found[0] if found[1] in self._known else f"\\\\{found[1]}"


def count_titles(rows: list[list[str]], width: int) -> int:
    """Count the records above the header: titles and comments fill few of the columns that the others have."""
    for number, row in enumerate(rows[: _MOST_TITLES + 1]):
        filled = sum(1 for cell in row if cell.strip())
        title = width > 1 and filled <= 1 and (len(row) == 1 or width > 2)
        title = title or (len(row) < width and filled * 2 < width)
        if filled == 1 and len(row) == width == 2:
            below = _next(rows, number)
            named = any(map(is_known_name, below)) and not any(map(is_known_name, row))
            title = title or named or not any(map(str.strip, below))
        if not title and filled:
            return number
    return 0


def _next(rows: list[list[str]], number: int) -> list[str]:
    """Return the record after another one; a record with text where there is none."""
    return rows[number + 1] if number + 1 < len(rows) else ["-"]


def _best_delimiter(sample: str, *, whole: bool) -> _Reading:
    usual = [_best_quoting(delimiter, sample, whole=whole) for delimiter in DELIMITERS]
    found = [reading for reading in usual if reading.width > 1]
    best = max(found, key=lambda reading: (reading.regular, reading.width), default=usual[0])
    if best.width > 1 and best.regular >= _REGULAR:
        return best
    for delimiter in RARE_DELIMITERS:
        if delimiter not in sample:
            continue
        reading = _best_quoting(delimiter, sample, whole=whole)
        names = [cell.strip() for cell in reading.rows[0]] if reading.rows else []
        tidy = all(name and len(name) <= 40 for name in names)
        if delimiter in _BETWEEN_WORDS:
            tidy = tidy and all(map(_PLAIN_NAME.fullmatch, names))
        if reading.width > 1 and reading.regular == 1 and len(reading.rows) > (2 if delimiter == " " else 1) and tidy:
            return reading
    return best


def _best_quoting(delimiter: str, sample: str, *, whole: bool) -> _Reading:
    """Try every way to mark cells that left a trace in the sample; the usual one where none explains more."""
    best = _read(sample, CsvDialect(delimiter=delimiter), whole=whole)
    for dialect, is_likely in _unusual_quotings(delimiter, sample):
        reading = _read(sample, dialect, whole=whole)
        if reading.regular > best.regular or (is_likely and reading.regular == best.regular):
            best = reading
    return best


def _unusual_quotings(delimiter: str, sample: str) -> Iterator[tuple[CsvDialect, bool]]:
    """Yield dialects, and whether they win where they explain as much as the usual one."""
    usual, between = CsvDialect(delimiter=delimiter), re.escape(delimiter)
    begins, ends = rf"(?:\A|{between}|[\r\n])", rf"(?={between}|[\r\n]|\Z)"
    if re.search(rf'{between} +"', sample):
        yield usual.model_copy(update={"spaced": True}), True
    if r"\"" in sample:
        # Who doubles quotation marks never writes a single one behind a backslash, but at the end of a cell.
        single = re.search(rf'\\"(?!"){_not(ends)}', sample) is not None
        yield usual.model_copy(update={"backslash": True}), single and r'\""' not in sample
    if re.search(rf"{begins}'", sample):
        no_double = not re.search(rf'{begins}"', sample)
        wrapped = re.findall(rf"{begins}'((?:[^'\r\n]|'')*)'{ends}", sample)
        is_likely = no_double and (len(wrapped) > 1 or any("''" in inner for inner in wrapped))
        yield usual.model_copy(update={"quote": "'"}), is_likely
        if r"\'" in sample:
            single = re.search(rf"\\'(?!'){_not(ends)}", sample) is not None
            yield usual.model_copy(update={"quote": "'", "backslash": True}), is_likely and single
    if f"\\{delimiter}" in sample:
        yield usual.model_copy(update={"quote": None, "backslash": True}), False
    if delimiter in "\t|" and '"' in sample:
        yield usual.model_copy(update={"quote": None}), False


def _not(lookahead: str) -> str:
    return lookahead.replace("(?=", "(?!", 1)


def _read(sample: str, dialect: CsvDialect, *, whole: bool) -> _Reading:
    found = [row for row in _rows(sample, dialect) if row != []]
    if not whole and len(found) > 1:
        found.pop()  # the sample may cut it
    rows = [row for row in found if row is not None]
    widths = Counter(len(row) for row in rows)
    width, count = max(widths.items(), key=lambda item: (item[1], item[0]), default=(1, 0))
    if width == 1 and len(widths) > 1 and len(rows[0]) > 1:
        width, count = len(rows[0]), widths[len(rows[0])]
    return _Reading(dialect, rows, width, count / max(1, len(found)))


def _rows(sample: str, dialect: CsvDialect) -> Iterator[list[str] | None]:
    """Yield the records; None for one with quotation marks out of place."""
    reader = open_reader(StringIO(sample, newline=""), dialect)
    while True:
        try:
            row: list[str] | None = next(reader)
        except StopIteration:
            return
        except csv.Error:
            row = None
        yield row


def _is_one_column(table: _Reading) -> bool:
    """Say whether what seems to separate cells only stands in the sentences of a single column.

    So it is where the "cells" are words behind a space, hardly any a number, and their number changes or a single one leads the
    others; and below the known name of a column, where either of that holds. Never above names of columns.
    """
    wide = [row for row in table.rows if len(row) > 1]
    if not wide or any(map(is_known_name, wide[0])):
        return False
    first = next((row for row in table.rows if any(row)), [])
    later = [cell for row in wide for cell in row[1:]]
    spaced = sum(1 for cell in later if cell[:1] in ("", " ", "\xa0"))
    numbers = sum(1 for row in wide for cell in row if _NUMBER.fullmatch(cell.strip()))
    are_words = spaced >= _REGULAR * len(later) and numbers * 10 <= len(later)
    if len(first) == 1 and is_known_name(first[0]):
        return are_words or len(set(map(len, wide))) > 1
    differ = len(first) == 1 or table.regular < _REGULAR
    return are_words and differ and table.dialect.delimiter in PUNCTUATION


def _describe_one_column(table: _Reading, sample: str, *, whole: bool) -> CsvDialect:
    """Return the dialect of a single column, whose cells may be quoted if all quotation marks are in place."""
    dialect = CsvDialect(delimiter="")
    reading = _read(sample, dialect, whole=whole)
    if reading.regular < 1:
        dialect = CsvDialect(delimiter="", quote=None)
        reading = _read(sample, dialect, whole=whole)
    named = len(next((row for row in table.rows if any(row)), [])) == 1 and _names_columns(reading.rows)
    return dialect.model_copy(update={"header": named})


def _names_columns(rows: list[list[str]]) -> bool:
    """Say whether the first record names the columns: it is no data if any cell of it is neither number nor sentence."""
    first = [cell.strip() for cell in rows[0] if cell.strip()]
    if all(_NUMBER.fullmatch(cell) for cell in first):
        return False
    if len(rows) == 1 and len(first) == 1:
        return True
    sentences = [cell for cell in first if len(cell) > _LONGEST_NAME or _SENTENCE.fullmatch(cell)]
    return len(sentences) * 2 < len(first) if len(first) > 1 else not sentences
