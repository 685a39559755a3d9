"""JSON arrays, JSON Lines and values one after another, without holding the file in memory (RFC 8259).

Strict where the standard is: NaN and Infinity are refused. Every error names line and column.
"""

import json
import re
from codecs import BOM_UTF8
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, TextIO

import orjson

from app.contracts.dataset import Problem
from app.core.errors import DatasetInvalid, TooLarge
from app.datasets.rows import MAX_ROW_CHARACTERS, Place, RawRow

JsonLayout = Literal["array", "lines", "values"]
"""`values`: objects one after another, spread over several lines each."""

_CHUNK_CHARACTERS = 1 << 20
_BUFFER_BYTES = 1 << 20
_SPACES, _SPACE_BYTES = " \t\r\n", b" \t\r\n"
_SPACE = re.compile(r"[ \t\r\n]*")
_CONSTANT = re.compile(r'"(?:[^"\\]|\\.)*"|(-?Infinity|NaN)', re.DOTALL)


class _RefusedConstant(ValueError):
    """NaN or Infinity, which are not JSON."""


def _refuse(name: str) -> object:
    raise _RefusedConstant(name)


_decoder = json.JSONDecoder(parse_constant=_refuse)


MAX_DEPTH = 100
"""Deepest nesting of a row; the tables of the field need five levels."""


def find_layout(path: Path, encoding: str, *, by_lines: bool = False) -> JsonLayout:
    """Tell the layouts apart by the first character and the first line.

    `by_lines`: the file is named as JSON Lines, so that several lines that begin with `[` are rows and no damaged array.
    """
    with path.open(encoding=encoding, newline="\n") as file:
        lines = iter(lambda: file.readline(MAX_ROW_CHARACTERS), "")
        for line in lines:
            if not (text := line.strip(_SPACES)):
                continue
            if text[0] == "[" and not (by_lines and any(more.strip() for more in lines)):
                return "array"
            try:
                _decoder.decode(text)
            except (ValueError, RecursionError):
                return "array" if text[0] == "[" else "values"
            return "lines"
    raise DatasetInvalid("empty_file")


def read_json_rows(path: Path, encoding: str, layout: JsonLayout, place: Place | None = None) -> Iterator[RawRow]:
    """Yield every record. Raise DatasetInvalid (`json`, `json_constant`, `json_deep`), TooLarge (`row`)."""
    if layout == "lines" and encoding in ("utf-8", "utf-8-sig"):
        return _read_byte_lines(path, len(BOM_UTF8) if encoding == "utf-8-sig" else 0, place)
    return _read_text(path, encoding, layout, place)


def _read_text(path: Path, encoding: str, layout: JsonLayout, place: Place | None) -> Iterator[RawRow]:
    with path.open(encoding=encoding, newline="\n") as file:
        if place is not None:
            place.follow(file)
        values = _read_lines(file) if layout == "lines" else _read_values(file, array=layout == "array")
        texts = False
        for row, value in enumerate(values, 1):
            texts = texts or (row == 1 and isinstance(value, str))
            yield _raw_row(row, value, texts=texts)


def _raw_row(row: int, value: object, *, texts: bool) -> RawRow:
    """Return a value as a record; `texts`: the file is a list of texts."""
    if isinstance(value, dict):
        return RawRow(row, value)
    if isinstance(value, str) and texts:
        return RawRow(row, {"text": value})
    if isinstance(value, list) and value and isinstance(value[0], dict) and ("role" in value[0] or "from" in value[0]):
        return RawRow(row, {"messages": value})
    kind = "null" if value is None else {list: "list", str: "text", bool: "boolean"}.get(type(value), "number")
    return RawRow(row, {"value": value}, [Problem(row=row, column=None, key="not_an_object", params={"kind": kind})])


def _read_byte_lines(path: Path, start: int, place: Place | None) -> Iterator[RawRow]:
    """Read UTF-8 with orjson, several times as fast as Python's parser; what it refuses, Python's parser judges."""
    row = number = 0
    texts = False
    with path.open("rb", buffering=_BUFFER_BYTES) as file:
        file.seek(start)
        if place is not None:
            place.follow(file)
        while line := file.readline(MAX_ROW_CHARACTERS + 1):
            number += 1
            if len(line) > MAX_ROW_CHARACTERS:
                raise TooLarge("row", row=row + 1, most=MAX_ROW_CHARACTERS)
            if line.count(b"[") + line.count(b"{") <= MAX_DEPTH:
                try:
                    value = orjson.loads(line)
                except ValueError:
                    pass
                else:
                    # A whole number beyond 64 bits becomes a float there, and loses digits: Python's parser reads it.
                    if type(value) is dict and float not in map(type, value.values()):
                        row += 1
                        yield RawRow(row, value)
                        continue
            if line.strip(_SPACE_BYTES):
                row += 1
                value = _decode_line(line.decode(), number)
                texts = texts or (row == 1 and isinstance(value, str))
                yield _raw_row(row, value, texts=texts)


def _read_lines(file: TextIO) -> Iterator[object]:
    row = 0
    for number, line in enumerate(iter(lambda: file.readline(MAX_ROW_CHARACTERS + 1), ""), 1):
        if not line.strip(_SPACES):
            continue
        row += 1
        if len(line) > MAX_ROW_CHARACTERS:
            raise TooLarge("row", row=row, most=MAX_ROW_CHARACTERS)
        yield _decode_line(line, number)


def _decode_line(line: str, number: int) -> object:
    text = line.strip(_SPACES)
    try:
        value = _decoder.decode(text)
        _check_depth(value, text, 0, len(text))
    except (ValueError, RecursionError) as error:
        raise _located(error, text, 0, number, 1 + line.index(text[0])) from error
    return value


def _read_values(file: TextIO, *, array: bool) -> Iterator[object]:
    text = _Window(file)
    if not array:
        while text.peek():
            yield text.take_value()
            line = text.line
            if text.peek() and text.line == line:
                raise text.error("Extra data")
        return
    text.take("[")
    if text.peek() != "]":
        yield text.take_value()
        while text.peek() == ",":
            text.take(",")
            yield text.take_value()
    text.take("]")
    if text.peek():
        raise text.error("Extra data")


class _Window:
    """A moving view of the file that decodes one value at a time."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._buffer = ""
        self._position = 0
        self._line = 1
        self._column = 1
        self._ended = False

    def peek(self) -> str:
        """Return the next character that is no white space, without taking it; "" at the end."""
        while True:
            found = _SPACE.match(self._buffer, self._position)
            assert found is not None, "the pattern matches the empty text"
            self._position = found.end()
            if self._position < len(self._buffer):
                return self._buffer[self._position]
            if not self._read_more():
                return ""

    def take(self, expected: str) -> None:
        """Step over one punctuation mark."""
        if self.peek() != expected:
            raise self.error(f"Expecting '{expected}'")
        self._position += 1

    def take_value(self) -> object:
        """Decode the value at the next character."""
        self.peek()
        while True:
            try:
                value, end = _decoder.raw_decode(self._buffer, self._position)
                _check_depth(value, self._buffer, self._position, end)
            except (ValueError, RecursionError) as error:
                # It may only be cut by the end of the buffer.
                if not isinstance(error, json.JSONDecodeError) or not self._read_more():
                    raise _located(error, self._buffer, self._position, self._line, self._column) from error
            else:
                if end < len(self._buffer) or not self._read_more():
                    self._position = end
                    return value

    @property
    def line(self) -> int:
        """The line at the current position, from 1."""
        return self._line + self._buffer.count("\n", 0, self._position)

    def error(self, reason: str) -> DatasetInvalid:
        """Make the refusal of what stands at the current position."""
        error = json.JSONDecodeError(reason, self._buffer, self._position)
        return _located(error, self._buffer, self._position, self._line, self._column)

    def _read_more(self) -> bool:
        """Drop what was read, fetch at least as much again as is waiting; False at the end of the file."""
        if self._ended:
            return False
        waiting = len(self._buffer) - self._position
        if waiting > MAX_ROW_CHARACTERS:
            return False
        more = self._file.read(max(_CHUNK_CHARACTERS, waiting))
        if not more:
            self._ended = True
            return False
        self._line, self._column = _move(self._buffer[: self._position], self._line, self._column)
        self._buffer, self._position = self._buffer[self._position :] + more, 0
        return True


def _move(text: str, line: int, column: int) -> tuple[int, int]:
    """Return line and column after `text` that begins at (line, column)."""
    breaks = text.count("\n")
    return (line + breaks, len(text) - text.rindex("\n")) if breaks else (line, column + len(text))


def _check_depth(value: object, text: str, start: int, end: int) -> None:
    """Raise RecursionError for a value nested beyond MAX_DEPTH; `text[start:end]` is how it is written."""
    if text.count("[", start, end) + text.count("{", start, end) <= MAX_DEPTH:
        return
    level = [value]
    for _ in range(MAX_DEPTH):
        inner: list[object] = []
        for found in level:
            if isinstance(found, dict):
                inner += [below for below in found.values() if isinstance(below, dict | list)]
            elif isinstance(found, list):
                inner += [below for below in found if isinstance(below, dict | list)]
        if not inner:
            return
        level = inner
    raise RecursionError


def _located(error: Exception, text: str, start: int, line: int, column: int) -> DatasetInvalid:
    """Say where in the file the decoder stopped; `text` begins at (line, column), the value in it at `start`."""
    if isinstance(error, json.JSONDecodeError):
        at_line, at_column = _move(text[: error.pos], line, column)
        return DatasetInvalid("json", line=at_line, column=at_column, reason=error.msg)
    if isinstance(error, _RefusedConstant):
        at = next((found.start(1) for found in _CONSTANT.finditer(text, start) if found.group(1)), start)
        at_line, at_column = _move(text[:at], line, column)
        return DatasetInvalid("json_constant", line=at_line, column=at_column, constant=str(error))
    at_line, at_column = _move(text[:start], line, column)
    if isinstance(error, RecursionError):
        return DatasetInvalid("json_deep", line=at_line, column=at_column)
    return DatasetInvalid("json", line=at_line, column=at_column, reason="number with too many digits")
