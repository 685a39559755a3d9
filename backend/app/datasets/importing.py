"""Turn a file of a person's into a data set: recognised, mapped, checked row by row, split.

Rows stream through: memory holds a few numbers per row, whatever the size of the file.
"""

import json
import os
import shutil
from array import array
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path, PurePath
from typing import Any

from app.contracts.dataset import Change, DatasetInfo, Example, Mapping, Problem
from app.core.errors import DatasetInvalid
from app.core.messages import localise
from app.datasets.cells import make_writable
from app.datasets.detecting import Detected, check_mapping, detect_mapping, find_template_marks, find_tools, name_unread
from app.datasets.examples import make_examples
from app.datasets.reading import SourceFile, open_source, reopen_source
from app.datasets.rows import RawRow, Watch, unwatched
from app.datasets.writing_rows import quantiles, write_rows, write_split
from app.storage.dataset_dir import DatasetDir
from app.storage.job_dir import utc_now

MAX_DETAILS = 20
"""Problems listed in the refusal of a file without a usable row."""

REPEATED_HEADERS = "repeated_headers"
"""Key of the remark that counts them."""
REPEATED_KEY = "repeated_key"
"""Key of the remark that names the first record with a key named twice."""
TOOLS_UNREAD = "tools_unread"
"""Key of the remark that names the column of tools, which no training reads."""
COLUMNS_UNREAD = "columns_unread"
"""Key of the remark that names the columns that play no part."""
TEMPLATE_MARKS = "template_marks"
"""Key of the remark that running texts hold the marks of a chat template."""
_MADE_AGAIN = (REPEATED_HEADERS, REPEATED_KEY, TOOLS_UNREAD, COLUMNS_UNREAD, TEMPLATE_MARKS)
"""Remarks that every reading of the rows makes."""

_SAMPLE_ROWS = 50


@dataclass(frozen=True)
class RowView:
    """One record as it stands in the file and as an example."""

    row: int
    values: dict[str, str]
    example: Example | None
    problems: list[Problem] = field(default_factory=list)


def import_file(
    source: Path,
    *,
    filename: str,
    name: str | None,
    target: DatasetDir,
    mapping: Mapping | None = None,
    watch: Watch = unwatched,
) -> DatasetInfo:
    """Import `source` as the data set `target`; it appears complete or not at all. `source` is copied.

    `filename` is the name that the person gave the file; it names the data set where `name` is None.
    Raise Unsupported for what is no table of texts, TooLarge for a row beyond all measure, DatasetInvalid for what
    cannot be read or mapped, or holds no usable row (`no_usable_rows`, with the first problems as details).
    """
    with target.rebuilt() as fresh:
        opened = open_source(source, filename, fresh.decoded_file, watch)
        title = (name or _title(filename)).strip() or target.dataset_id
        kept = fresh.source_file(opened.format)
        shutil.copyfile(source, kept)
        return _build(opened, fresh, dataset_id=target.dataset_id, name=title, created_at=utc_now(), mapping=mapping, watch=watch)


def check_file(
    source: Path, *, filename: str, scratch: Path, mapping: Mapping | None = None, watch: Watch = unwatched
) -> DatasetInfo:
    """Return what an import of the file would find out. Nothing is written but what has to be decoded, to `scratch`.

    Raise what import_file raises.
    """
    opened = open_source(source, filename, scratch, watch)
    info, _, _ = _describe(opened, Path(os.devnull), "checked", _title(filename) or "checked", utc_now(), mapping, watch)
    return info


def _title(filename: str) -> str:
    """Return the name that a file gives to its data set."""
    return PurePath(filename.replace("\\", "/")).stem.strip()


def remap(target: DatasetDir, mapping: Mapping, *, version: DatasetDir | None = None) -> DatasetInfo:
    """Read the rows again under another mapping. Raise DatasetInvalid and leave everything as it was.

    `version`: the result becomes this new data set, and `target` stays as it is.
    """
    info = target.read_info()
    source = target.source_file(info.format)
    with (version or target).rebuilt() as fresh:
        fresh.source_file(info.format).hardlink_to(source)
        if info.decoded:
            fresh.decoded_file.hardlink_to(target.decoded_file)
        remarks = [remark for remark in info.remarks if remark.key not in _MADE_AGAIN]
        opened = replace(open_again(target), container=info.container, remarks=remarks)
        built = _build(
            opened, fresh, dataset_id=(version or target).dataset_id, name=info.name, created_at=info.created_at, mapping=mapping
        )
        if version is not None:
            change = Change(code="mapping", rows=built.rows)
            built = built.model_copy(update=_lineage(info) | {"created_at": utc_now(), "changes": [change]})
        else:
            kept = {"version": info.version, "parent": info.parent, "origin": info.origin, "changes": info.changes}
            built = built.model_copy(update=kept)
        fresh.write_info(built)
        return built


def build_version(
    lines: Iterable[bytes],
    parent: DatasetInfo,
    target: DatasetDir,
    *,
    mapping: Mapping,
    columns: list[str],
    changes: Callable[[], list[Change]],
    watch: Watch = unwatched,
) -> DatasetInfo:
    """Make `target` the version of `parent` that holds these records (`lines` of JSON); `changes` is asked after the last."""
    with target.rebuilt() as fresh:
        path = fresh.source_file("jsonl")
        with path.open("wb") as file:
            file.writelines(lines)
        opened = SourceFile(path, "jsonl", "utf-8", columns, "jsonl", layout="lines")
        info = _build(
            opened,
            fresh,
            dataset_id=target.dataset_id,
            name=parent.name,
            created_at=utc_now(),
            mapping=mapping,
            watch=watch,
        )
        info = info.model_copy(update=_lineage(parent) | {"changes": changes(), "confirmed": parent.confirmed})
        fresh.write_info(info)
        return info


def _lineage(parent: DatasetInfo) -> dict[str, object]:
    return {"version": parent.version + 1, "parent": parent.dataset_id, "origin": parent.origin or parent.dataset_id}


def open_again(target: DatasetDir) -> SourceFile:
    """Return the file of a data set, ready to be read."""
    info = target.read_info()
    return reopen_source(target.source_file(info.format), target.decoded_file, info)


def read_rows(target: DatasetDir, offset: int, limit: int, mapping: Mapping | None = None) -> list[RowView]:
    """Return `limit` records of the file from `offset` on, usable or not. The file is read from its beginning.

    `mapping`: another one than the data set's own. Raise DatasetInvalid where it names what is not there.
    """
    info = target.read_info()
    if mapping is not None:
        check_mapping(mapping, info.columns)
    used = mapping or info.mapping
    opened = open_again(target)
    views: list[RowView] = []
    for raw in islice(opened.rows(), offset, offset + limit):
        examples, problems = make_examples(raw, used)
        values = {make_writable(name): shown(value) for name, value in raw.values.items()}
        example = Example.model_validate(examples[0]) if examples else None
        views.append(RowView(raw.row, values, example, [*problems]))
    return views


def shown(value: object) -> str:
    """Return a value of the file as text: JSON for what is no text, nothing for null."""
    if value is None:
        return ""
    return make_writable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _build(
    opened: SourceFile,
    fresh: DatasetDir,
    *,
    dataset_id: str,
    name: str,
    created_at: str,
    mapping: Mapping | None,
    watch: Watch = unwatched,
) -> DatasetInfo:
    """Write rows.jsonl, train.jsonl, heldout.jsonl and dataset.json into `fresh`."""
    info, heldout, lengths = _describe(opened, fresh.rows_file, dataset_id, name, created_at, mapping, watch)
    write_split(fresh, heldout, lengths, watch)
    fresh.write_info(info)
    return info


def _describe(  # noqa: PLR0917 - what a data set is called, then how it is read
    opened: SourceFile, rows_file: Path, dataset_id: str, name: str, created_at: str, mapping: Mapping | None, watch: Watch
) -> tuple[DatasetInfo, bytearray, "array[int]"]:
    """Read the file, write its usable rows to `rows_file`.

    Return what was found out, one flag per row (1 = held out), and the bytes of every row's line.
    """
    sample = list(islice(opened.rows(), _SAMPLE_ROWS))
    if not sample:
        raise DatasetInvalid("header_only" if opened.read_as == "csv" else "no_rows")
    if mapping is not None:
        check_mapping(mapping, opened.columns)
    detected = Detected(mapping) if mapping is not None else _detected(opened.columns, sample)
    used = detected.mapping
    counts, content_hash = write_rows(opened, rows_file, used, watch)
    if counts.late:
        opened = replace(opened, columns=[*opened.columns, *counts.late])
        sample = [*sample, *counts.late.values()]
        wider = used if mapping is not None else _widen(detected, opened.columns, sample)
        if wider != used:
            detected, used = detected._replace(mapping=wider), wider
            counts, content_hash = write_rows(opened, rows_file, used, watch)
    rows = len(counts.characters)
    if not rows:
        raise DatasetInvalid("no_usable_rows", details=_details(counts.problems), rows=counts.rows_in_file)
    remarks = [*opened.remarks]
    if counts.oddities.repeated_headers:
        params: dict[str, object] = {"count": counts.oddities.repeated_headers}
        remarks.append(Problem(row=0, column=None, key=REPEATED_HEADERS, params=params))
    if counts.oddities.repeated_key is not None:
        row, key = counts.oddities.repeated_key[0], make_writable(counts.oddities.repeated_key[1])
        remarks.append(Problem(row=0, column=key, key=REPEATED_KEY, params={"row": row, "column": key[:80]}))
    if tools := find_tools(opened.columns, used, sample):
        remarks.append(Problem(row=0, column=tools, key=TOOLS_UNREAD, params={"column": tools[:80]}))
    if unread := name_unread(opened.columns, used, sample):
        remarks.append(Problem(row=0, column=None, key=COLUMNS_UNREAD, params={"columns": make_writable(unread)}))
    if mark := find_template_marks(used, sample):
        remarks.append(Problem(row=0, column=used.text, key=TEMPLATE_MARKS, params={"mark": mark}))
    heldout = counts.keys.choose_heldout()
    info = DatasetInfo(
        dataset_id=dataset_id,
        name=name,
        created_at=created_at,
        format=opened.format,
        encoding=opened.encoding,
        delimiter=opened.delimiter,
        columns=opened.columns,
        mapping=used,
        confidence=detected.confidence,
        confirmed=detected.sure,
        container=opened.container,
        decoded=opened.read_as if opened.is_decoded else None,
        dialect=opened.dialect,
        remarks=remarks,
        rows=rows,
        rows_in_file=counts.rows_in_file,
        distinct_rows=counts.keys.distinct_rows,
        skipped_rows=counts.skipped_rows,
        problems=counts.problems,
        problem_count=counts.problem_count,
        train_rows=rows - sum(heldout),
        heldout_rows=sum(heldout),
        content_hash=content_hash,
        source_bytes=opened.path.stat().st_size,
        characters=sum(counts.characters),
        row_characters=quantiles(counts.characters),
    )
    return info, heldout, counts.line_bytes


def _detected(columns: list[str], sample: list[RawRow]) -> Detected:
    if not columns:
        problems = [problem for row in sample for problem in row.problems]
        raise DatasetInvalid("no_usable_rows", details=_details(problems), rows=len(sample))
    return detect_mapping(columns, sample)


def _widen(detected: Detected, columns: list[str], sample: list[RawRow]) -> Mapping:
    """Return the mapping with the parts that columns play which begin late; itself where they would change its other parts."""
    with suppress(DatasetInvalid):
        wider = detect_mapping(columns, sample).mapping
        if wider.model_dump(exclude_none=True).items() >= detected.mapping.model_dump(exclude_none=True).items():
            return wider
    return detected.mapping


def _details(problems: list[Problem]) -> list[dict[str, Any]]:
    return [
        {
            "row": problem.row,
            "column": problem.column,
            "code": problem.key,
            "message": localise(problem.key, "en", **problem.params)[0],
        }
        for problem in problems[:MAX_DETAILS]
    ]
