"""Turn a file of a person's into a data set: recognised, mapped, checked row by row, split.

Rows stream through: memory holds a few numbers per row, whatever the size of the file.
"""

import hashlib
import json
import shutil
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import compress, islice
from operator import not_
from pathlib import Path, PurePath
from typing import Any

import orjson

from app.contracts.dataset import Change, DatasetInfo, Example, Mapping, PlainExample, Problem
from app.core.errors import DatasetInvalid
from app.core.messages import localise
from app.datasets.detecting import Detected, check_mapping, detect_mapping, find_split, find_tools
from app.datasets.examples import make_examples
from app.datasets.reading import SourceFile, open_source, reopen_source
from app.datasets.rows import Place, RawRow, Watch, unwatched
from app.datasets.splitting import RowKeys
from app.storage.dataset_dir import DatasetDir
from app.storage.job_dir import utc_now

MAX_PROBLEMS = 1000
"""Problems kept in dataset.json; all are counted."""

MAX_DETAILS = 20
"""Problems listed in the refusal of a file without a usable row."""

REPEATED_HEADERS = "repeated_headers"
"""Key of the remark that counts them."""
TOOLS_UNREAD = "tools_unread"
"""Key of the remark that names the column of tools, which no training reads."""
_OF_THE_MAPPING = (REPEATED_HEADERS, TOOLS_UNREAD)
"""Remarks that are made again under another mapping."""

_SAMPLE_ROWS = 50
_BATCH_ROWS = 256
_CHUNK_BYTES = 1 << 20


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
        title = (name or PurePath(filename.replace("\\", "/")).stem).strip() or target.dataset_id
        kept = fresh.source_file(opened.format)
        shutil.copyfile(source, kept)
        return _build(opened, fresh, dataset_id=target.dataset_id, name=title, created_at=utc_now(), mapping=mapping, watch=watch)


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
        remarks = [remark for remark in info.remarks if remark.key not in _OF_THE_MAPPING]
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
        values = {name: shown(value) for name, value in raw.values.items()}
        example = Example.model_validate(examples[0]) if examples else None
        views.append(RowView(raw.row, values, example, [*problems]))
    return views


def shown(value: object) -> str:
    """Return a value of the file as text: JSON for what is no text, nothing for null."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text.encode("utf-8", "replace").decode("utf-8")


@dataclass
class _Counts:
    """What one pass over the rows finds out."""

    rows_in_file: int = 0
    skipped_rows: int = 0
    repeated_headers: int = 0
    problem_count: int = 0
    problems: list[Problem] = field(default_factory=list)
    characters: "array[int]" = field(default_factory=lambda: array("I"))
    keys: RowKeys = field(default_factory=RowKeys)

    def add_repeated_header(self) -> None:
        """Count a header that stands again between the rows."""
        self.repeated_headers += 1

    def add_problems(self, problems: Sequence[Problem]) -> None:
        """Count all, keep the first."""
        self.problem_count += len(problems)
        self.problems += problems[: MAX_PROBLEMS - len(self.problems)]


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
    sample = list(islice(opened.rows(), _SAMPLE_ROWS))
    if not sample:
        raise DatasetInvalid("header_only" if opened.read_as == "csv" else "no_rows")
    if mapping is not None:
        check_mapping(mapping, opened.columns)
    detected = Detected(mapping) if mapping is not None else _detected(opened.columns, sample)
    used = detected.mapping
    counts, content_hash = _write_rows(opened, fresh.rows_file, used, watch)
    rows = len(counts.characters)
    if not rows:
        raise DatasetInvalid("no_usable_rows", details=_details(counts.problems), rows=counts.rows_in_file)
    remarks = [*opened.remarks]
    if counts.repeated_headers:
        remarks.append(Problem(row=0, column=None, key=REPEATED_HEADERS, params={"count": counts.repeated_headers}))
    if tools := find_tools(opened.columns, used, sample):
        remarks.append(Problem(row=0, column=tools, key=TOOLS_UNREAD, params={"column": tools[:80]}))
    heldout = counts.keys.choose_heldout()
    _write_split(fresh, heldout, watch)
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
        decoded=opened.read_as if fresh.decoded_file.exists() else None,
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
        row_characters=_quantiles(counts.characters),
    )
    fresh.write_info(info)
    return info


def _detected(columns: list[str], sample: list[RawRow]) -> Detected:
    if not columns:
        problems = [problem for row in sample for problem in row.problems]
        raise DatasetInvalid("no_usable_rows", details=_details(problems), rows=len(sample))
    return detect_mapping(columns, sample)


def _write_rows(opened: SourceFile, path: Path, mapping: Mapping, watch: Watch) -> tuple[_Counts, str]:
    """Write every usable row; return the counts and the SHA-256 of the file."""
    counts, digest, place = _Counts(), hashlib.sha256(), Place()
    size = opened.path.stat().st_size
    lines: list[bytes] = []
    with path.open("wb") as file:

        def flush() -> None:
            written = b"".join(lines)
            lines.clear()
            digest.update(written)
            file.write(written)
            watch("reading", place.read_bytes(), size)

        for raw in opened.rows(counts.add_repeated_header, place):
            counts.rows_in_file += 1
            examples, problems = make_examples(raw, mapping)
            if problems:
                counts.add_problems(problems)
            if not examples:
                counts.skipped_rows += 1
            for example in examples:
                counts.keys.add(example, find_split(raw.values.get(mapping.split)) if mapping.split else None)
                counts.characters.append(_characters(example))
                lines.append(orjson.dumps(example, option=orjson.OPT_APPEND_NEWLINE))
            if counts.rows_in_file % _BATCH_ROWS == 0:
                flush()
        flush()
    return counts, digest.hexdigest()


def _write_split(fresh: DatasetDir, heldout: bytearray, watch: Watch) -> None:
    size, start = fresh.rows_file.stat().st_size, 0
    with fresh.rows_file.open("rb") as rows, fresh.train_file.open("wb") as train, fresh.heldout_file.open("wb") as held:
        while lines := rows.readlines(_CHUNK_BYTES):
            flags = heldout[start : start + len(lines)]
            held.writelines(compress(lines, flags))
            train.writelines(compress(lines, map(not_, flags)))
            start += len(lines)
            watch("splitting", rows.tell(), size)


def _characters(example: PlainExample) -> int:
    messages = example.get("messages")
    if messages is None:
        return len(example.get("text", ""))
    count = sum([len(message["content"]) for message in messages])
    rejected = example.get("rejected")
    return count if rejected is None else max(count, sum([len(message["content"]) for message in rejected]))


def _quantiles(lengths: "array[int]") -> list[int]:
    """Return the lengths at 0, 5, ..., 100 % of the sorted rows; needs no sorted copy of them."""
    count_of = Counter(lengths)
    places = [round(step / 20 * (len(lengths) - 1)) for step in range(21)]
    found: list[int] = []
    below = 0
    for length in sorted(count_of):
        below += count_of[length]
        while len(found) < len(places) and places[len(found)] < below:
            found.append(length)
    return found


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
