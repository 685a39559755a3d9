"""A JSON file that is a single object may hold a whole table: a list of records under one key, or columns as lists."""

from collections.abc import Mapping, Sequence

_CONVERSATIONS = ("messages", "conversations", "conversation", "dialogue", "turns", "history", "instances", "contents")

_SPLITS = ("train", "validation", "valid", "dev", "test")
_TABLES = ("data", "rows", "train", "examples", "records", "items", "dataset", "entries", "samples", "results", "features")
"""Under these names a list of records is the table, and what stands beside it describes it."""


def unwrap(value: Mapping[str, object]) -> tuple[str | None, list[dict[str, object]]] | None:
    """Return the records inside an object and the key they stand under (None: the object is a table of columns).

    None where the object is a record itself: a conversation, or a row of plain values.
    """
    if (found := _split(value) or _paragraphs(value) or _parts(value)) is not None:
        return found
    lists = [name for name, inner in value.items() if isinstance(inner, list) and inner and isinstance(inner[0], dict)]
    if len(lists) == 1 and lists[0].lower() not in _CONVERSATIONS:
        records = value[lists[0]]
        assert isinstance(records, list), "chosen above"
        if len(value) == 1 or lists[0].lower() in _TABLES:
            return lists[0], [record if isinstance(record, dict) else {"value": record} for record in records]
    return _columns(value)


def _split(value: Mapping[str, object]) -> tuple[str, list[dict[str, object]]] | None:
    """Rows apart from the names of their columns (pandas, `orient="split"`), or each in a wrapping (the viewer of a hub)."""
    columns, data, rows = value.get("columns"), value.get("data"), value.get("rows")
    if isinstance(columns, list) and isinstance(data, list) and data:
        names = [name for name in columns if isinstance(name, str)]
        if len(names) == len(columns) and all(isinstance(cells, list) and len(cells) == len(names) for cells in data):
            return "data", [dict(zip(names, cells, strict=True)) for cells in data]
    if isinstance(rows, list) and rows and all(isinstance(row, dict) and isinstance(row.get("row"), dict) for row in rows):
        return "rows", [row["row"] for row in rows]
    return None


def _paragraphs(value: Mapping[str, object]) -> tuple[str, list[dict[str, object]]] | None:
    """Questions on paragraphs of articles (SQuAD): a record each, with the first of the accepted answers."""
    records: list[dict[str, object]] = []
    for paragraph in _inner(_inner([value], "data"), "paragraphs"):
        for asked in _inner([paragraph], "qas"):
            answer = next((answer.get("text") for answer in _inner([asked], "answers")), "")
            records.append({"context": paragraph.get("context"), "question": asked.get("question"), "answer": answer})
    return ("data", records) if records else None


def _inner(objects: Sequence[Mapping[str, object]], key: str) -> list[dict[str, object]]:
    """Return the objects that stand in the lists under a key."""
    lists = [one.get(key) for one in objects]
    return [inner for found in lists if isinstance(found, list) for inner in found if isinstance(inner, dict)]


def _parts(value: Mapping[str, object]) -> tuple[str, list[dict[str, object]]] | None:
    """Lists of records under the names of splits; or records under names of their own, all with the same keys."""
    lists = {name: inner for name, inner in value.items() if isinstance(inner, list) and inner and isinstance(inner[0], dict)}
    if len(lists) > 1 and all(name.lower() in _SPLITS for name in lists):
        return ", ".join(lists), [
            {**record, "split": name} for name, inner in lists.items() for record in inner if isinstance(record, dict)
        ]
    records = [inner for inner in value.values() if isinstance(inner, dict)]
    if len(records) == len(value) > 1 and len(records[0]) > 1 and all(record.keys() == records[0].keys() for record in records):
        return None if all(map(str.isdigit, records[0])) else ("", records)
    return None


def _columns(value: Mapping[str, object]) -> tuple[None, list[dict[str, object]]] | None:
    """Columns as lists of one length (`datasets`), or as objects with the same keys (pandas)."""
    columns = list(value.values())
    if len(columns) > 1 and all(isinstance(column, list) and column for column in columns):
        texts = [column for column in columns if isinstance(column, list)]
        if len({len(column) for column in texts}) == 1 and not any(_is_turn(cell) for column in texts for cell in column):
            return None, [dict(zip(value, cells, strict=True)) for cells in zip(*texts, strict=True)]
    tables = [column for column in columns if isinstance(column, dict)]
    if len(tables) == len(columns) > 1 and tables[0]:
        keys = list(tables[0])
        numbered = all(key.isdigit() for key in keys) and all(list(table) == keys for table in tables)
        if numbered:
            return None, [{name: table[key] for name, table in zip(value, tables, strict=True)} for key in keys]
    return None


def _is_turn(cell: object) -> bool:
    """Say whether a cell is a turn of a conversation, or a list: then what holds it is no column but a value of a record."""
    return isinstance(cell, list) or (isinstance(cell, dict) and ("role" in cell or "from" in cell))
