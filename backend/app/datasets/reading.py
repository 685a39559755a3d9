"""Recognise a file by its content and read it record by record."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path, PurePath

from app.contracts.dataset import Container, CsvDialect, DatasetInfo, FileFormat, Problem, ReadFormat
from app.core.errors import DatasetInvalid, Unsupported
from app.datasets.cells import make_writable
from app.datasets.containers import is_spreadsheet, unpack
from app.datasets.csv_dialect import sniff_dialect
from app.datasets.decoding import TableKind, decode_table
from app.datasets.detecting import TEMPLATE_MARK
from app.datasets.encoding import detect_encoding
from app.datasets.reading_csv import read_csv_rows, read_header
from app.datasets.reading_json import JsonLayout, find_layout, read_json_rows, take_json_rows
from app.datasets.reading_text import TEXT_COLUMN, read_text_rows
from app.datasets.rows import MAX_COLUMNS, Oddities, Place, RawRow, Take, Watch, take_rows, unwatched
from app.datasets.unwrapping import unwrap

LINES_SUFFIXES = (".jsonl", ".ndjson", ".jsonlines")
JSON_SUFFIXES = (".json", *LINES_SUFFIXES)
TABLE_SUFFIXES = (".csv", ".tsv", ".tab")
MARKUP_SUFFIXES = (".yaml", ".yml")
"""Rows may stand in them, but nobody reads them here: as plain text they would be learned with their marks."""

_COLUMN_SAMPLE_ROWS = 1000
_REGULAR = 0.9
"""A file not named as a table is one when this share of its first records has the same number of cells."""

_ROOT = re.compile(r"<([a-z][\w:.-]*)[\s>]")
_END_BYTES = 400

_TABLES: tuple[tuple[bytes, TableKind, FileFormat], ...] = (
    (b"PAR1", "parquet", "parquet"),
    (b"ARROW1", "arrow", "arrow"),
    (b"\xff\xff\xff\xff", "arrow_stream", "arrow"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "workbook", "xls"),
)


@dataclass(frozen=True)
class SourceFile:
    """A file whose kind is known. `rows()` may be called again and again."""

    path: Path
    """What is read: the given file, or what it was decoded into."""
    format: FileFormat
    encoding: str
    columns: list[str]
    """CSV: the header. JSON: the keys of the first 1,000 records, in order of appearance."""
    read_as: ReadFormat
    dialect: CsvDialect | None = None
    layout: JsonLayout | None = None
    container: Container | None = None
    remarks: list[Problem] = field(default_factory=list)
    is_decoded: bool = False
    """Whether `path` is not the given file."""

    @property
    def delimiter(self) -> str | None:
        """What stands between the cells of a given CSV file."""
        return (self.dialect.delimiter or None) if self.dialect is not None and self.format == "csv" else None

    def rows(self, oddities: Oddities | None = None, place: Place | None = None) -> Iterator[RawRow]:
        """Yield the records from the first on."""
        if self.layout is not None:
            return read_json_rows(self.path, self.encoding, self.layout, oddities, place)
        if self.dialect is not None:
            return read_csv_rows(self.path, self.encoding, self.dialect, self.columns, oddities, place)
        return read_text_rows(self.path, self.encoding, place)

    def take_rows(self, take: Take, oddities: Oddities, place: Place) -> Iterator[RawRow | bytes]:
        """Yield what `take` makes of the records, and those of which it makes nothing: quicker than `rows()`."""
        if self.layout is not None:
            return take_json_rows(self.path, self.encoding, self.layout, take, oddities, place)
        return take_rows(self.rows(oddities, place), take)


def open_source(path: Path, filename: str, scratch: Path, watch: Watch = unwatched) -> SourceFile:
    """Recognise the file by what it holds; `filename` is only a hint. What has to be decoded goes to `scratch`.

    A file that begins like JSON, or is named so, must be JSON. Raise Unsupported for what holds no rows of text,
    DatasetInvalid for an empty or damaged one, TooLarge for one that grows too large when it is unpacked. `watch` is told
    how far the unpacking is.
    """
    container = None
    unpacked = unpack(path, filename, scratch, watch)
    if unpacked is not None:
        filename, container = unpacked
        path = scratch
    if (table := _find_table(path)) is not None:
        kind, file_format = table
        decoded = scratch.with_name(f"{scratch.name}.table")
        unread = decode_table(kind, path, decoded)
        decoded.replace(scratch)
        source = _open_csv(scratch) if kind == "workbook" else _open_json(scratch, "jsonl")
        remarks = [*source.remarks]
        if unread.other_sheets:
            remarks.append(
                Problem(row=0, column=None, key="other_sheets", params={"names": ", ".join(unread.other_sheets)[:200]})
            )
        if unread.errors:
            params = {"count": unread.errors.cells, "cell": unread.errors.first[:20], "error": unread.errors.error[:20]}
            remarks.append(Problem(row=0, column=None, key="error_cells", params=params))
        return replace(source, format=file_format, container=container, remarks=remarks, is_decoded=True)
    detected = detect_encoding(path)
    source = _open_text(path, filename, scratch, detected)
    remarks = [*_encoding_remarks(detected), *source.remarks]
    return replace(source, container=container, remarks=remarks, is_decoded=source.path == scratch)


def reopen_source(given: Path, decoded: Path, info: DatasetInfo) -> SourceFile:
    """Open a file that was imported before, without recognising it again."""
    path = decoded if info.decoded else given
    read_as: ReadFormat = info.decoded or ("jsonl" if info.format == "jsonl" else "csv" if info.format == "csv" else "json")
    if info.decoded is None and info.format == "text":
        read_as = "text"
    dialect = (info.dialect or CsvDialect(delimiter=info.delimiter or ",")) if read_as == "csv" else None
    layout: JsonLayout | None = None
    if read_as == "jsonl":
        layout = "lines"
    elif read_as == "json":
        layout = find_layout(path, info.encoding)
    return SourceFile(
        path, info.format, info.encoding, info.columns, read_as, dialect, layout, is_decoded=info.decoded is not None
    )


def _find_table(path: Path) -> tuple[TableKind, FileFormat] | None:
    with path.open("rb") as file:
        head = file.read(8)
    if head.startswith(b"PK\x03\x04") and is_spreadsheet(path):
        with path.open("rb") as file:
            return "workbook", "ods" if b"opendocument.spreadsheet" in file.read(200) else "xlsx"
    return next(((kind, form) for signature, kind, form in _TABLES if head.startswith(signature)), None)


def _open_text(path: Path, filename: str, scratch: Path, encoding: str) -> SourceFile:
    suffix = PurePath(filename).suffix.lower()
    with path.open(encoding=encoding) as file:
        beginning = file.read(1 << 16).lstrip()
    _refuse_markup(beginning[:100].lower(), _read_end(path, encoding), suffix)
    if suffix in JSON_SUFFIXES or beginning[:1] in ("{", "["):
        return _open_json(path, suffix[1:], encoding, scratch)
    if suffix not in TABLE_SUFFIXES:
        dialect, regular = sniff_dialect(path, encoding)
        regular = 0.0 if TEMPLATE_MARK.search(beginning[:1000]) else regular
        if regular < _REGULAR or not dialect.header or "\n" not in beginning.strip().replace("\r", "\n"):
            return SourceFile(path, "text", encoding, [TEXT_COLUMN], "text")
    return _open_csv(path, encoding)


def _read_end(path: Path, encoding: str) -> str:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _END_BYTES))
        return file.read().decode(encoding, "replace").rstrip().lower()


def _refuse_markup(beginning: str, end: str, suffix: str) -> None:
    """Raise Unsupported (`web_page`, `pointer`, `markup`) for text that only wraps rows, or stands where rows should."""
    if beginning.startswith(("<!doctype html", "<html")):
        raise Unsupported("web_page")
    if beginning.startswith("version https://git-lfs.github.com/spec/"):
        raise Unsupported("pointer")
    root = _ROOT.match(beginning)
    if beginning.startswith(("<?xml", "<!doctype")) or suffix in MARKUP_SUFFIXES or (root and end.endswith(f"</{root[1]}>")):
        raise Unsupported("markup", kind="YAML" if suffix in MARKUP_SUFFIXES else "XML")


def _open_csv(path: Path, encoding: str = "utf-8") -> SourceFile:
    dialect, _ = sniff_dialect(path, encoding)
    columns = read_header(path, encoding, dialect)
    remarks = []
    if dialect.skipped:
        remarks.append(Problem(row=0, column=None, key="title_lines", params={"count": dialect.skipped}))
    if not dialect.header:
        remarks.append(Problem(row=0, column=None, key="no_header"))
    if not dialect.delimiter:
        remarks.append(Problem(row=0, column=None, key="whole_lines"))
    elif dialect.quote is None:
        remarks.append(Problem(row=0, column=None, key="plain_quotes"))
    return SourceFile(path, "csv", encoding, columns, "csv", dialect, remarks=remarks)


def _encoding_remarks(encoding: str) -> list[Problem]:
    """Return the remark that an encoding is a guess, where it is not the usual one."""
    if encoding.startswith("utf") or encoding == "cp1252":
        return []
    return [Problem(row=0, column=None, key="guessed_encoding", params={"encoding": encoding.upper().replace("_", "-")})]


def _open_json(path: Path, suffix: str, encoding: str = "utf-8", scratch: Path | None = None) -> SourceFile:
    layout = find_layout(path, encoding, by_lines=f".{suffix}" in LINES_SUFFIXES)
    read_as: ReadFormat = "jsonl" if layout == "lines" else "json"
    source = SourceFile(path, read_as, encoding, [], read_as, layout=layout)
    if scratch is not None and layout != "array":
        first = list(islice(source.rows(), 2))
        if len(first) == 1 and (found := unwrap(first[0].values)) is not None:
            key, rows = found
            scratch.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
            key = make_writable(key or "")
            remarks = [Problem(row=0, column=key or None, key="unwrapped", params={"column": key, "rows": len(rows)})]
            source = replace(source, path=scratch, encoding="utf-8", read_as="jsonl", layout="lines", remarks=remarks)
    return replace(source, columns=_json_columns(source))


def _json_columns(source: SourceFile) -> list[str]:
    names: dict[str, None] = {}
    for row in islice(source.rows(), _COLUMN_SAMPLE_ROWS):
        if not row.problems:
            names |= dict.fromkeys(name for name in row.values if make_writable(name) == name)
        if len(names) > MAX_COLUMNS:
            raise DatasetInvalid("too_many_columns", columns=len(names), most=MAX_COLUMNS)
    return list(names)
