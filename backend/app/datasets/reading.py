"""Recognise a file by its content and read it record by record."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath

from app.contracts.dataset import DatasetInfo, FileFormat
from app.core.errors import DatasetInvalid
from app.datasets.encoding import detect_encoding
from app.datasets.reading_csv import read_csv_rows, read_header, sniff_delimiter
from app.datasets.reading_json import JsonLayout, find_layout, read_json_rows
from app.datasets.rows import MAX_COLUMNS, RawRow

JSON_SUFFIXES = (".json", ".jsonl", ".ndjson", ".jsonlines")

_COLUMN_SAMPLE_ROWS = 1000


@dataclass(frozen=True)
class SourceFile:
    """A file whose kind is known. `rows()` may be called again and again."""

    path: Path
    format: FileFormat
    encoding: str
    delimiter: str | None
    columns: list[str]
    """CSV: the header. JSON: the keys of the first 1,000 records, in order of appearance."""
    layout: JsonLayout | None = None

    def rows(self) -> Iterator[RawRow]:
        """Yield the records from the first on."""
        if self.layout is not None:
            return read_json_rows(self.path, self.encoding, self.layout)
        assert self.delimiter is not None, "a CSV file has a delimiter"
        return read_csv_rows(self.path, self.encoding, self.delimiter, self.columns)


def open_source(path: Path, filename: str) -> SourceFile:
    """Recognise the file by what it holds; `filename` is only a hint.

    A file that begins like JSON, or is named so, must be JSON. Raise Unsupported for what is no table of texts,
    DatasetInvalid for an empty or damaged one.
    """
    encoding = detect_encoding(path)
    named_json = PurePath(filename).suffix.lower() in JSON_SUFFIXES
    with path.open(encoding=encoding) as file:
        beginning = file.read(1 << 16).lstrip()
    if named_json and beginning[:1] not in ("{", "["):
        raise DatasetInvalid("json", line=1, column=1, reason="Expecting '[' or '{'")
    if named_json or beginning[:1] in ("{", "["):
        layout = find_layout(path, encoding)
        source = SourceFile(path, "jsonl" if layout == "lines" else "json", encoding, None, [], layout)
        return SourceFile(path, source.format, encoding, None, _json_columns(source), layout)
    delimiter = sniff_delimiter(path, encoding)
    return SourceFile(path, "csv", encoding, delimiter, read_header(path, encoding, delimiter))


def reopen_source(path: Path, info: DatasetInfo) -> SourceFile:
    """Open a file that was imported before, without recognising it again."""
    layout = None if info.format == "csv" else "lines" if info.format == "jsonl" else find_layout(path, info.encoding)
    return SourceFile(path, info.format, info.encoding, info.delimiter, info.columns, layout)


def _json_columns(source: SourceFile) -> list[str]:
    names: dict[str, None] = {}
    for row in source.rows():
        names |= dict.fromkeys(row.values)
        if len(names) > MAX_COLUMNS:
            raise DatasetInvalid("too_many_columns", columns=len(names), most=MAX_COLUMNS)
        if row.row >= _COLUMN_SAMPLE_ROWS:
            break
    return list(names)
