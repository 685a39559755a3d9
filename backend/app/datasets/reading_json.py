"""JSON arrays, JSON Lines and values one after another, without holding the file in memory (RFC 8259).

Strict where the standard is: NaN and Infinity are refused. Every error names line and column.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, TextIO

from app.core.errors import DatasetInvalid, TooLarge
from app.datasets.json_values import SPACES, StrictDecoder, check_depth, decode_line, located, move_place, raw_row
from app.datasets.reading_lines import take_byte_lines
from app.datasets.rows import MAX_ROW_CHARACTERS, Oddities, Place, RawRow, Take, take_rows

JsonLayout = Literal["array", "lines", "values"]
"""`values`: objects one after another, spread over several lines each."""

_UTF8 = ("utf-8", "utf-8-sig")
_CHUNK_CHARACTERS = 1 << 20
_SPACE = re.compile(rf"[{SPACES}]*")


def find_layout(path: Path, encoding: str, *, by_lines: bool = False) -> JsonLayout:
    """Tell the layouts apart by the first character and the first line.

    `by_lines`: the file is named as JSON Lines, so that several lines that begin with `[` are rows and no damaged array.
    """
    decoder = StrictDecoder(noting=False)
    with path.open(encoding=encoding, newline="\n") as file:
        lines = iter(lambda: file.readline(MAX_ROW_CHARACTERS), "")
        for line in lines:
            if not (text := line.strip(SPACES)):
                continue
            if text[0] == "[" and not (by_lines and any(more.strip() for more in lines)):
                return "array"
            try:
                decoder.decode(text)
            except (ValueError, RecursionError):
                return "array" if text[0] == "[" else "values"
            return "lines"
    raise DatasetInvalid("empty_file")


def read_json_rows(
    path: Path, encoding: str, layout: JsonLayout, oddities: Oddities | None = None, place: Place | None = None
) -> Iterator[RawRow]:
    """Yield every record. Raise DatasetInvalid (`json`, `json_constant`, `json_deep`), TooLarge (`row`)."""
    if layout == "lines" and encoding in _UTF8:
        rows = take_byte_lines(path, marked=encoding != "utf-8", take=None, oddities=oddities, place=place)
        return (row for row in rows if not isinstance(row, bytes))
    return _read_text(path, encoding, layout, oddities, place)


def take_json_rows(  # noqa: PLR0917 - what a file is, then three who take part
    path: Path, encoding: str, layout: JsonLayout, take: Take, oddities: Oddities, place: Place
) -> Iterator[RawRow | bytes]:
    """Yield what `take` makes of the records, and those of which it makes nothing. Raise as read_json_rows does.

    `take` sees an object whose whole numbers beyond 64 bits have lost digits; the record has them all.
    """
    if layout == "lines" and encoding in _UTF8:
        return take_byte_lines(path, marked=encoding != "utf-8", take=take, oddities=oddities, place=place)
    return take_rows(_read_text(path, encoding, layout, oddities, place), take)


def _read_text(path: Path, encoding: str, layout: JsonLayout, oddities: Oddities | None, place: Place | None) -> Iterator[RawRow]:
    decoder = StrictDecoder(noting=oddities is not None)
    with path.open(encoding=encoding, newline="\n") as file:
        if place is not None:
            place.follow(file)
        values = _read_lines(file, decoder) if layout == "lines" else _read_values(file, decoder, array=layout == "array")
        texts = False
        for row, value in enumerate(values, 1):
            texts = texts or (row == 1 and isinstance(value, str))
            if decoder.repeated_key is not None and oddities is not None and oddities.repeated_key is None:
                oddities.repeated_key = (row, decoder.repeated_key)
            yield raw_row(row, value, texts=texts)


def _read_lines(file: TextIO, decoder: json.JSONDecoder) -> Iterator[object]:
    row = 0
    for number, line in enumerate(iter(lambda: file.readline(MAX_ROW_CHARACTERS + 1), ""), 1):
        if not line.strip(SPACES):
            continue
        row += 1
        if len(line) > MAX_ROW_CHARACTERS:
            raise TooLarge("row", row=row, most=MAX_ROW_CHARACTERS)
        yield decode_line(line, number, decoder)


def _read_values(file: TextIO, decoder: json.JSONDecoder, *, array: bool) -> Iterator[object]:
    text = _Window(file, decoder)
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

    def __init__(self, file: TextIO, decoder: json.JSONDecoder) -> None:
        self._file = file
        self._decoder = decoder
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
                value, end = self._decoder.raw_decode(self._buffer, self._position)
                check_depth(value)
            except (ValueError, RecursionError) as error:
                # It may only be cut by the end of the buffer.
                if not isinstance(error, json.JSONDecodeError) or not self._read_more():
                    raise located(error, self._buffer, self._position, self._line, self._column) from error
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
        return located(error, self._buffer, self._position, self._line, self._column)

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
        self._line, self._column = move_place(self._buffer[: self._position], self._line, self._column)
        self._buffer, self._position = self._buffer[self._position :] + more, 0
        return True
