"""One JSON value, strict where the standard is (RFC 8259), or where in the file it stops being one.

NaN and Infinity are refused, and what is nested too deep. Every error names line and column.
"""

import json
import math
import re
from typing import Any

from app.contracts.dataset import Problem
from app.core.errors import DatasetInvalid
from app.datasets.rows import RawRow

MAX_DEPTH = 100
"""Deepest nesting of a row; the tables of the field need five levels."""

SPACES = " \t\r\n"
_STRING = r'"(?:[^"\\]|\\.)*"'


class _RefusedNumber(ValueError):
    """NaN or Infinity, which are not JSON, or a number that would become one of them."""


def _refuse(name: str) -> object:
    raise _RefusedNumber(name)


def _read_float(written: str) -> float:
    value = float(written)
    if math.isinf(value):
        raise _RefusedNumber(written)
    return value


class StrictDecoder(json.JSONDecoder):
    """Python's decoder; `noting`: it notes the first key that an object names twice."""

    def __init__(self, *, noting: bool = True) -> None:
        build = self._build if noting else None
        super().__init__(parse_constant=_refuse, parse_float=_read_float, object_pairs_hook=build)
        self.repeated_key: str | None = None

    def _build(self, pairs: list[tuple[str, object]]) -> dict[str, object]:
        built = dict(pairs)
        if len(built) < len(pairs) and self.repeated_key is None:
            names = [name for name, _ in pairs]
            self.repeated_key = next(name for place, name in enumerate(names) if name in names[:place])
        return built


def decode_line(line: str, number: int, decoder: json.JSONDecoder) -> object:
    """Return the value of the file's line `number`. Raise DatasetInvalid (`json`, `json_constant`, `json_deep`)."""
    text = line.strip(SPACES)
    try:
        value = decoder.decode(text)
        check_depth(value)
    except (ValueError, RecursionError) as error:
        raise located(error, text, 0, number, 1 + line.index(text[0])) from error
    return value


def raw_row(row: int, value: object, *, texts: bool) -> RawRow:
    """Return a value as a record; `texts`: the file is a list of texts."""
    if isinstance(value, dict):
        return RawRow(row, value)
    if isinstance(value, str) and texts:
        return RawRow(row, {"text": value})
    if isinstance(value, list) and value and isinstance(value[0], dict) and ("role" in value[0] or "from" in value[0]):
        return RawRow(row, {"messages": value})
    kind = "null" if value is None else {list: "list", str: "text", bool: "boolean"}.get(type(value), "number")
    return RawRow(row, {"value": value}, [Problem(row=row, column=None, key="not_an_object", params={"kind": kind})])


def check_depth(value: object) -> None:
    """Raise RecursionError for a value nested beyond MAX_DEPTH."""
    if isinstance(value, dict | list) and is_deep(value, MAX_DEPTH):
        raise RecursionError


def is_deep(value: dict[str, Any] | list[Any], most: int) -> bool:
    """Say whether a value is nested in more than `most` levels."""
    for inner in value.values() if isinstance(value, dict) else value:
        kind = type(inner)
        if (kind is dict or kind is list) and (most == 1 or is_deep(inner, most - 1)):
            return True
    return False


def located(error: Exception, text: str, start: int, line: int, column: int) -> DatasetInvalid:
    """Say where in the file the decoder stopped; `text` begins at (line, column), the value in it at `start`."""
    if isinstance(error, json.JSONDecodeError):
        at_line, at_column = move_place(text[: error.pos], line, column)
        return DatasetInvalid("json", line=at_line, column=at_column, reason=error.msg)
    if isinstance(error, _RefusedNumber):
        written = str(error)
        places = re.compile(rf"{_STRING}|({re.escape(written)})", re.DOTALL).finditer(text, start)
        at = next((found.start(1) for found in places if found.group(1)), start)
        at_line, at_column = move_place(text[:at], line, column)
        if written[-1].isdigit():
            return DatasetInvalid("json", line=at_line, column=at_column, reason="number too large")
        return DatasetInvalid("json_constant", line=at_line, column=at_column, constant=written)
    at_line, at_column = move_place(text[:start], line, column)
    if isinstance(error, RecursionError):
        return DatasetInvalid("json_deep", line=at_line, column=at_column)
    return DatasetInvalid("json", line=at_line, column=at_column, reason="number with too many digits")


def move_place(text: str, line: int, column: int) -> tuple[int, int]:
    """Return line and column after `text` that begins at (line, column)."""
    breaks = text.count("\n")
    return (line + breaks, len(text) - text.rindex("\n")) if breaks else (line, column + len(text))
