"""Spreadsheets and columnar files become CSV or JSON Lines, in a child process under limits.

Their readers are C++ and Rust libraries fed with files of strangers: a crash, a hang or a bomb ends the child and not
the server. Run as `python -m app.datasets.decoding KIND SOURCE TARGET`.
"""

import csv
import datetime
import json
import math
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple
from xml.etree import ElementTree
from xml.parsers.expat import ExpatError

from app.core.errors import DatasetInvalid
from app.datasets.containers import FREE_BYTES, MAX_DECODED_BYTES, MAX_RATIO
from app.datasets.error_cells import ErrorCells, find_error_cells
from app.datasets.reading_csv import name_columns

if TYPE_CHECKING:
    import pyarrow

TableKind = Literal["workbook", "parquet", "arrow", "arrow_stream"]

CHILD_SECONDS = 300
MEMORY_BYTES = 4 << 30
"""Address space; libraries alone map about 1 GiB of it."""
_BATCH_ROWS = 256
_REFUSED = 3
_WHOLE = 1 << 53
"""Up to here a number of 64 bits tells all whole numbers apart (a card's 16 digits)."""


class Unread(NamedTuple):
    """What a workbook holds that does not become rows."""

    other_sheets: list[str]
    errors: ErrorCells | None = None


def decode_table(kind: TableKind, source: Path, target: Path) -> Unread:
    """Write the rows of `source` to `target`: CSV for a workbook, else JSON Lines.

    Raise DatasetInvalid (`damaged_table`) for what the libraries cannot read.
    """
    command = [sys.executable, "-m", "app.datasets.decoding", kind, str(source), str(target)]
    environment = {**os.environ, "ARROW_DEFAULT_MEMORY_POOL": "system", "OMP_NUM_THREADS": "1", "PYTHONUTF8": "1"}
    try:
        done = subprocess.run(command, capture_output=True, timeout=CHILD_SECONDS + 10, env=environment, check=False)
    except subprocess.TimeoutExpired as error:
        raise DatasetInvalid("damaged_table", reason=f"more than {CHILD_SECONDS} s") from error
    if done.returncode == 0:
        answer = json.loads(done.stdout)
        return Unread([str(name) for name in answer["other_sheets"]], ErrorCells(*answer["errors"]) if answer["errors"] else None)
    if done.returncode == _REFUSED:
        reason = done.stdout.decode(errors="replace")
    else:
        reason = (done.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    raise DatasetInvalid("damaged_table", reason=" ".join(reason.split())[:200].rstrip("."))


def main(arguments: list[str]) -> int:
    """Decode one file; write the answer as JSON to stdout."""
    kind, source, target = arguments[0], Path(arguments[1]), Path(arguments[2])
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CHILD_SECONDS, CHILD_SECONDS + 1))
    most = min(MAX_DECODED_BYTES, max(FREE_BYTES, MAX_RATIO * source.stat().st_size))
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        unread = _decode_workbook(source, target) if kind == "workbook" else _decode_columns(kind, source, target)
    except MemoryError:
        sys.stdout.write("it needs too much memory")
        return _REFUSED
    except Exception as error:  # noqa: BLE001 - the process entry: the libraries raise classes of their own
        sys.stdout.write(str(error) or type(error).__name__)
        return _REFUSED
    json.dump(unread._asdict(), sys.stdout)
    return 0


def _decode_workbook(source: Path, target: Path) -> Unread:
    """Write the first sheet that has at least one row; hidden ones come last."""
    from python_calamine import CalamineWorkbook, SheetVisibleEnum

    with source.open("rb") as given:
        workbook = CalamineWorkbook.from_filelike(given)
    sheets = sorted(workbook.sheets_metadata, key=lambda sheet: sheet.visible != SheetVisibleEnum.Visible)
    names = [sheet.name for sheet in sheets if sheet.name in workbook.sheet_names]
    with target.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\n")
        chosen = ""
        for name in names:
            for cells in workbook.get_sheet_by_name(name).to_python(skip_empty_area=True):
                texts = [_cell(value) for value in cells]
                if any(texts):
                    chosen = name
                    writer.writerow(texts)
            if chosen:
                break
    unread = Unread([name for name in names if name != chosen])
    with suppress(KeyError, ValueError, ElementTree.ParseError, ExpatError):  # what calamine reads may still be no strict XML
        unread = unread._replace(errors=find_error_cells(source, chosen))
    return unread


def _cell(value: object) -> str:
    if isinstance(value, float) and value.is_integer() and abs(value) <= _WHOLE:
        return str(int(value))
    if isinstance(value, datetime.datetime) and value.time() == datetime.time():
        return value.date().isoformat()
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return "" if value is None else str(value)


def _decode_columns(kind: str, source: Path, target: Path) -> Unread:
    with target.open("w", encoding="utf-8") as file:
        for row in _column_rows(kind, source):
            file.write(json.dumps({name: _plain(value) for name, value in row.items()}, ensure_ascii=False) + "\n")
    return Unread([])


def _column_rows(kind: str, source: Path) -> Iterator[dict[str, object]]:
    import pyarrow

    pyarrow.set_cpu_count(1)
    pyarrow.set_io_thread_count(1)
    if kind == "parquet":
        from pyarrow import parquet

        with parquet.ParquetFile(str(source)) as table:
            for batch in table.iter_batches(batch_size=_BATCH_ROWS, use_threads=False):
                yield from _records(batch)
        return
    opener = pyarrow.ipc.open_stream if kind == "arrow_stream" else pyarrow.ipc.open_file
    with pyarrow.memory_map(str(source)) as file, opener(file) as reader:
        batches = reader if kind == "arrow_stream" else map(reader.get_batch, range(reader.num_record_batches))
        for batch in batches:
            for start in range(0, batch.num_rows, _BATCH_ROWS):
                yield from _records(batch.slice(start, _BATCH_ROWS))


def _records(batch: "pyarrow.RecordBatch") -> list[dict[str, object]]:
    """Return the rows; a name that columns share is numbered, and of instants finer than a microsecond that much is kept."""
    names = batch.schema.names
    if len({*names}) < len(names):
        batch = batch.rename_columns(name_columns(names))
    try:
        rows: list[dict[str, object]] = batch.to_pylist()
    except ValueError:
        columns = [column.cast(_in_microseconds(column.type), safe=False) for column in batch.columns]
        rows = type(batch).from_arrays(columns, names=batch.schema.names).to_pylist()
    return rows


def _in_microseconds(kind: "pyarrow.DataType") -> "pyarrow.DataType":  # noqa: PLR0911 - one kind of type after another
    """Return a type with nanoseconds replaced: Python's dates hold none."""
    import pyarrow

    if pyarrow.types.is_timestamp(kind):
        return pyarrow.timestamp("us", kind.tz)
    if pyarrow.types.is_duration(kind):
        return pyarrow.duration("us")
    if pyarrow.types.is_time64(kind):
        return pyarrow.time64("us")
    if pyarrow.types.is_struct(kind):
        return pyarrow.struct([inner.with_type(_in_microseconds(inner.type)) for inner in kind])
    if pyarrow.types.is_large_list(kind):
        return pyarrow.large_list(_in_microseconds(kind.value_type))
    if pyarrow.types.is_list(kind):
        return pyarrow.list_(_in_microseconds(kind.value_type))
    if pyarrow.types.is_map(kind):
        return pyarrow.map_(_in_microseconds(kind.key_type), _in_microseconds(kind.item_type))
    return kind


def _plain(value: object) -> object:  # noqa: PLR0911 - one kind of value after another
    """What JSON can write: bytes become text where they are UTF-8, a size in words elsewhere."""
    if isinstance(value, dict):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return f"<{len(value)} bytes>"
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return str(int(value)) if isinstance(value, Decimal) and value == value.to_integral_value() else str(value)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
