"""JSON Lines in UTF-8, a block of lines at a time: orjson reads them, and what it refuses, Python's parser judges."""

from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import IO, Any

import orjson

from app.core.errors import TooLarge
from app.datasets.json_values import MAX_DEPTH, SPACES, StrictDecoder, decode_line, is_deep, raw_row
from app.datasets.rows import MAX_ROW_CHARACTERS, Oddities, Place, RawRow, Take

_BUFFER_BYTES = 1 << 16
"""Of the file read at once: what is made of one block stays in the processor's cache."""
_FIRST_BLOCKS, _EVERY_BLOCKS = 4, 8
"""A key named twice is looked for in the first blocks, then in one of so many: programs that do so do it in every row."""
_SPACE_BYTES = SPACES.encode()

_Record = dict[str, Any]
_NESTED = {dict, list}


def take_byte_lines(
    path: Path, *, marked: bool, take: Take | None, oddities: Oddities | None, place: Place | None
) -> Iterator[RawRow | bytes]:
    """Yield what `take` makes of the records, and those of which it makes nothing; `marked`: the file has a byte order mark.

    Raise DatasetInvalid (`json`, `json_constant`, `json_deep`), TooLarge (`row`).
    """
    with path.open("rb", buffering=0) as file:
        file.seek(len(BOM_UTF8) if marked else 0)
        if place is not None:
            place.follow(file)
        lines = _Lines(take, oddities)
        for block in _read_blocks(file):
            yield from lines.read(block)


class _Lines:
    """Reads one block after another."""

    def __init__(self, take: Take | None, oddities: Oddities | None) -> None:
        self._take = take
        self._oddities = oddities
        self._decoder = StrictDecoder(noting=False)
        self._blocks = 0
        self._row = 0
        """The last record."""
        self._number = 0
        """The last line."""
        self._texts = False
        """Whether the file is a list of texts."""

    def read(self, block: bytes) -> Iterator[RawRow | bytes]:
        """Yield what is made of a block of whole lines."""
        lines = block.split(b"\n")
        values = _read_objects(lines) if len(block) <= MAX_ROW_CHARACTERS else None
        self._blocks += 1
        if values is not None:
            if self._blocks <= _FIRST_BLOCKS or self._blocks % _EVERY_BLOCKS == 0:
                self._find_repeated_key(block, lines, values)
            yield from self._offer(lines, values)
            return
        for line in lines:
            yield from self._read_line(line)

    def _offer(self, lines: Sequence[bytes], values: Sequence[_Record]) -> Iterator[RawRow | bytes]:
        """Offer records to be taken, then each half of them where they are not; what is left is yielded as it is."""
        taken = self._take(self._row + 1, values) if self._take is not None else None
        if taken is not None:
            self._row += len(values)
            self._number += len(values)
            yield taken
        elif self._take is None or len(values) == 1:
            for line, value in zip(lines, values, strict=True):
                self._row += 1
                self._number += 1
                # A whole number beyond 64 bits became a float, and lost digits: Python's parser reads it.
                yield raw_row(self._row, self._decode(line) if _holds_float(value) else value, texts=False)
        else:
            half = len(values) // 2
            yield from self._offer(lines[:half], values[:half])
            yield from self._offer(lines[half:], values[half:])

    def _read_line(self, line: bytes) -> Iterator[RawRow | bytes]:
        """Read a line by itself, which may be blank, too long, or no object."""
        if len(line) > MAX_ROW_CHARACTERS:
            raise TooLarge("row", row=self._row + 1, most=MAX_ROW_CHARACTERS)
        values = _read_objects([line])
        if values is not None:
            self._find_repeated_key(line, [line], values)
            yield from self._offer([line], values)
            return
        self._number += 1
        if line.strip(_SPACE_BYTES):
            self._row += 1
            value = self._decode(line)
            self._texts = self._texts or (self._row == 1 and isinstance(value, str))
            yield raw_row(self._row, value, texts=self._texts)

    def _decode(self, line: bytes) -> object:
        return decode_line(line.decode(), self._number, self._decoder)

    def _find_repeated_key(self, block: bytes, lines: Sequence[bytes], values: Sequence[_Record]) -> None:
        """Note the first record that names a key twice: the block has more keys than its objects.

        A quotation mark before a colon ends a key. Within a text it is escaped; so may be the last mark of a key, but then
        Python's parser only looks in vain.
        """
        if self._oddities is None or self._oddities.repeated_key is not None:
            return
        keys = _count_keys(values)
        marks = block.count(b'":')
        if marks == keys or marks - block.count(b'\\":') == keys:
            return
        decoder = StrictDecoder()
        for place, line in enumerate(lines, 1):
            decode_line(line.decode(), self._number + place, decoder)
            if decoder.repeated_key is not None:
                self._oddities.repeated_key = (self._row + place, decoder.repeated_key)
                return


def _read_blocks(file: IO[bytes]) -> Iterator[bytes]:
    """Yield whole lines, some at a time, without the last line break; at most one line is longer than any may be."""
    begun: list[bytes] = []
    waiting = 0
    while block := file.read(_BUFFER_BYTES):
        end = block.rfind(b"\n")
        if end >= 0:
            yield b"".join([*begun, block[:end]])
            begun, waiting = [block[end + 1 :]], len(block) - end - 1
            continue
        begun.append(block)
        waiting += len(block)
        if waiting > MAX_ROW_CHARACTERS:
            break
    if waiting:
        yield b"".join(begun)


def _read_objects(lines: Sequence[bytes]) -> list[_Record] | None:
    """Return the objects of lines; None where one is no object, or nested too deep, or not read by orjson."""
    try:
        values = list(map(orjson.loads, lines))
    except ValueError:
        return None
    if set(map(type, values)) != {dict}:
        return None
    kinds = set(map(type, chain.from_iterable(map(dict.values, values))))
    if (dict in kinds or list in kinds) and any(is_deep(value, MAX_DEPTH) for value in values):
        return None
    return values


def _count_keys(values: Iterable[_Record | list[Any]]) -> int:
    """Count the keys of objects and of all objects in them."""
    count = 0
    while parts := list(values):
        objects = [part for part in parts if type(part) is dict]
        count += sum(map(len, objects))
        lists = (part for part in parts if type(part) is list)
        inner = list(chain(chain.from_iterable(map(dict.values, objects)), chain.from_iterable(lists)))
        kinds = set(map(type, inner))
        values = (part for part in inner if type(part) in _NESTED) if kinds & _NESTED else ()
    return count


def _holds_float(value: _Record | list[Any]) -> bool:
    for inner in value.values() if isinstance(value, dict) else value:
        kind = type(inner)
        if kind is float or ((kind is dict or kind is list) and _holds_float(inner)):
            return True
    return False
