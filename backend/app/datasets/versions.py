"""New versions of a data set: the same rows with some left out, changed or added. The old version stays as it is.

A version is a data set of its own, which names the one that it was made from. Its file is JSON Lines with the same
columns, whatever the first file was, so that its mapping can still be changed. Rows that could not be read at all (a
ragged CSV record) are left out; they can be downloaded from the version that has them.
"""

import json
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import NamedTuple

import orjson

from app.contracts.analysis import REMEDIES, FindingCode
from app.contracts.dataset import Change, DatasetInfo, PlainExample
from app.contracts.dataset import Mapping as ColumnMapping
from app.core.errors import Invalid
from app.datasets.examples import make_examples
from app.datasets.findings.patterns import PatternCode, mask
from app.datasets.findings.places import read_places
from app.datasets.importing import build_version, open_again
from app.datasets.rows import RawRow, Watch, unwatched
from app.storage.dataset_dir import DatasetDir

FixCode = FindingCode | str
"""What a fix is called: as its finding, or BAD_ROWS."""
BAD_ROWS = "bad_rows"

_DROP, _MASK, _MOVE = 1, 2, 4
_SPLIT_COLUMN = "split"

Values = Mapping[str, object]
Rewrite = Callable[[RawRow], Iterable[Values]]
"""Returns the records that stand in a record's place: none, itself, others."""


class _Plan(NamedTuple):
    """What is done to which usable row."""

    flags: bytearray
    """By place in rows.jsonl."""
    masked: frozenset[PatternCode]
    heldout: bytearray | None
    """Per place whether the row is held out after the fix; None: the split is chosen anew."""


def fix(parent: DatasetDir, target: DatasetDir, codes: list[str], watch: Watch = unwatched) -> DatasetInfo:
    """Make `target` the version of `parent` in which these findings are mended.

    Raise Invalid (`no_finding`) for a code that is no finding of this data set, DatasetInvalid where no row would be left.
    """
    info = parent.read_info()
    plan, changes = _plan(parent, info, codes)
    mapping, columns = info.mapping, list(info.columns)
    if plan.heldout is not None and mapping.split is None:
        name = next(name for name in _free_names() if name not in columns)
        mapping, columns = mapping.model_copy(update={"split": name}), [*columns, name]
    nested = mapping.shape == "instances"
    if nested:
        mapping, columns = ColumnMapping(shape="messages", messages="messages", split=mapping.split), ["messages"]
        columns += [mapping.split] if mapping.split else []
    place = 0

    def rewrite(raw: RawRow) -> Iterator[Values]:
        nonlocal place
        examples, _ = make_examples(raw, info.mapping)
        if not examples and BAD_ROWS not in codes:
            yield raw.values
        for example in examples:
            flag, here = plan.flags[place], place
            place += 1
            if flag & _DROP:
                continue
            values: dict[str, object] = {"messages": example["messages"]} if nested else dict(raw.values)
            if flag & _MASK:
                values = {name: _masked(value, plan.masked) for name, value in values.items()}
            if plan.heldout is not None and mapping.split:
                values[mapping.split] = "test" if plan.heldout[here] else "train"
            yield values

    return make_version(parent, target, rewrite, changes=changes, mapping=mapping, columns=columns, watch=watch)


def make_version(
    parent: DatasetDir,
    target: DatasetDir,
    rewrite: Rewrite,
    *,
    added: Iterable[Values] = (),
    rescued: Container[int] = (),
    changes: list[Change],
    mapping: ColumnMapping | None = None,
    columns: list[str] | None = None,
    watch: Watch = unwatched,
) -> DatasetInfo:
    """Make `target` the version of `parent` whose records `rewrite` returns, and `added` behind them.

    Rows that could not be read are left out, except those whose numbers are `rescued`.
    """
    info = parent.read_info()
    unread = 0

    def records() -> Iterator[bytes]:
        nonlocal unread
        for raw in open_again(parent).rows():
            if raw.problems and raw.row not in rescued:
                unread += 1
                continue
            yield from map(_written, rewrite(raw))
        yield from map(_written, added)

    def all_changes() -> list[Change]:
        return [*changes, Change(code="unread_rows", rows=unread)] if unread else changes

    return build_version(
        records(),
        info,
        target,
        mapping=mapping or info.mapping,
        columns=columns or info.columns,
        changes=all_changes,
        watch=watch,
    )


def edit_rows(
    parent: DatasetDir, target: DatasetDir, edited: Mapping[int, Values | None], added: Iterable[Values] = ()
) -> DatasetInfo:
    """Make `target` the version of `parent` in which rows, by their number, have new values or (None) are left out.

    Columns that are not named keep their value; a row that could not be read gets the given ones only. A text that stands
    for a list, an object, a number or a truth value where the row has one (as rows are shown) is read as such. Raise Invalid
    (`no_row`) for a number that there is not, DatasetInvalid where no row can be used.
    """
    info = parent.read_info()
    unknown = [row for row in edited if not 1 <= row <= info.rows_in_file]
    if unknown:
        raise Invalid("no_row", row=unknown[0], rows=info.rows_in_file)
    more = list(added)
    columns = list(dict.fromkeys([*info.columns, *(name for values in (*edited.values(), *more) for name in values or ())]))

    def rewrite(raw: RawRow) -> Iterator[Values]:
        if raw.row not in edited:
            yield raw.values
        elif (values := edited[raw.row]) is not None:
            yield {**raw.values, **{name: _as_before(value, raw.values.get(name)) for name, value in values.items()}}

    counts = {
        "edited_rows": sum(1 for values in edited.values() if values is not None),
        "removed_rows": sum(1 for values in edited.values() if values is None),
        "added_rows": len(more),
    }
    changes = [Change(code=code, rows=count) for code, count in counts.items() if count]
    return make_version(parent, target, rewrite, added=more, rescued=edited, changes=changes, columns=columns)


def read_heldout(folder: DatasetDir) -> bytearray:
    """Return for every row of rows.jsonl whether it is held out."""
    flags = bytearray()
    with folder.rows_file.open("rb") as rows, folder.heldout_file.open("rb") as heldout:
        waiting = heldout.readline()
        for line in rows:
            held = bool(waiting) and line == waiting
            flags.append(held)
            if held:
                waiting = heldout.readline()
    return flags


def _plan(parent: DatasetDir, info: DatasetInfo, codes: list[str]) -> tuple[_Plan, list[Change]]:
    analysis = parent.find_analysis()
    found = {finding.code: finding for finding in analysis.findings} if analysis else {}
    flags = bytearray(info.rows)
    heldout: bytearray | None = None
    changes: list[Change] = []
    masked: set[PatternCode] = set()
    for code in dict.fromkeys(codes):
        if code == BAD_ROWS:
            changes.append(Change(code=code, rows=info.skipped_rows))
            continue
        finding = next((finding for known, finding in found.items() if known == code), None)
        if finding is None:
            raise Invalid("no_finding", finding=code[:80], known=", ".join([*found, BAD_ROWS]))
        remedy = REMEDIES[finding.code]
        places = read_places(parent.analysis_folder, finding.code)
        if remedy == "move":
            heldout = read_heldout(parent)
            for place in places:
                heldout[place] = 0
        if finding.code in ("emails", "phones", "secrets"):
            masked.add(finding.code)
        flag = {"drop": _DROP, "mask": _MASK, "move": _MOVE}[remedy]
        for place in places:
            flags[place] |= flag
        changes.append(Change(code=code, rows=len(places)))
    return _Plan(flags, frozenset(masked), heldout), changes


def _as_before(value: object, before: object) -> object:
    """Return a new value; a text in the place of something else as what it stands for, if that is of the same kind."""
    if isinstance(value, str) and before is not None and not isinstance(before, str):
        with suppress(ValueError, RecursionError):
            read = json.loads(value)
            if type(read) is type(before) or (_is_number(read) and _is_number(before)):
                return read
    return value


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _masked(value: object, codes: frozenset[PatternCode]) -> object:
    """Return a value with the patterns replaced in every text inside it."""
    if isinstance(value, str):
        return mask(value, codes)
    if isinstance(value, list):
        return [_masked(inner, codes) for inner in value]
    if isinstance(value, dict):
        return {name: _masked(inner, codes) for name, inner in value.items()}
    return value


def _written(values: Values) -> bytes:
    """Return a record as a line of JSON; what orjson cannot write (half a surrogate pair, a huge number) Python does."""
    try:
        return orjson.dumps(dict(values), option=orjson.OPT_APPEND_NEWLINE)
    except TypeError:
        return json.dumps(dict(values)).encode() + b"\n"


def _free_names() -> Iterator[str]:
    yield _SPLIT_COLUMN
    number = 1
    while True:
        number += 1
        yield f"{_SPLIT_COLUMN} ({number})"


def list_canonical(folder: DatasetDir) -> Iterator[PlainExample]:
    """Yield the usable rows as dictionaries."""
    with folder.rows_file.open("rb") as file:
        for line in file:
            yield orjson.loads(line)
