"""A JSON file that is a single object may hold a whole table: a list of records under one key, or columns as lists."""

from collections.abc import Mapping

_CONVERSATIONS = ("messages", "conversations", "conversation", "dialogue", "turns", "history", "instances")

_TABLES = ("data", "rows", "train", "examples", "records", "items", "dataset", "entries", "samples", "results", "features")
"""Under these names a list of records is the table, and what stands beside it describes it."""


def unwrap(value: Mapping[str, object]) -> tuple[str | None, list[dict[str, object]]] | None:
    """Return the records inside an object and the key they stand under (None: the object is a table of columns).

    None where the object is a record itself: a conversation, or a row of plain values.
    """
    lists = [name for name, inner in value.items() if isinstance(inner, list) and inner and isinstance(inner[0], dict)]
    if len(lists) == 1 and lists[0].lower() not in _CONVERSATIONS:
        records = value[lists[0]]
        assert isinstance(records, list), "chosen above"
        besides = [inner for name, inner in value.items() if name != lists[0]]
        described = lists[0].lower() in _TABLES and not any(isinstance(inner, list | dict) and inner for inner in besides)
        if not besides or described:
            return lists[0], [record if isinstance(record, dict) else {"value": record} for record in records]
    return _columns(value)


def _columns(value: Mapping[str, object]) -> tuple[None, list[dict[str, object]]] | None:
    """Columns as lists of one length (`datasets`), or as objects with the same keys (pandas)."""
    columns = list(value.values())
    if len(columns) > 1 and all(isinstance(column, list) and column for column in columns):
        texts = [column for column in columns if isinstance(column, list)]
        if len({len(column) for column in texts}) == 1 and not any(isinstance(cell, list) for column in texts for cell in column):
            return None, [dict(zip(value, cells, strict=True)) for cells in zip(*texts, strict=True)]
    tables = [column for column in columns if isinstance(column, dict)]
    if len(tables) == len(columns) > 1 and tables[0]:
        keys = list(tables[0])
        numbered = all(key.isdigit() for key in keys) and all(list(table) == keys for table in tables)
        if numbered:
            return None, [{name: table[key] for name, table in zip(value, tables, strict=True)} for key in keys]
    return None
