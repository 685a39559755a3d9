"""The metadata of a GGUF file: sizes, vocabulary, chat template. Reads no tensor and needs no library.

The gguf package builds a numpy array for each of the 100,000 texts of a vocabulary, which takes many seconds; this takes
a part of one. Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, version 3, little-endian.
"""

import mmap
import struct
from pathlib import Path
from typing import Any

_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
"""Value types of the format and their letters in `struct`."""
_TEXT, _ARRAY = 8, 9


def read_metadata(file: Path) -> dict[str, Any]:
    """Return the key-value pairs of a GGUF file. Raise ValueError for another kind of file or version."""
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if content[:4] != b"GGUF":
            raise ValueError(f"{file.name} is no GGUF file")
        reader = _Reader(content, 4)
        if (version := reader.number("I")) != 3:
            raise ValueError(f"{file.name} is GGUF version {version}, not 3")
        reader.number("Q")  # how many tensors there are
        return {reader.text(): reader.value(reader.number("I")) for _ in range(reader.number("Q"))}


class _Reader:
    def __init__(self, content: mmap.mmap, place: int) -> None:
        self._content = content
        self._place = place

    def number(self, letter: str) -> Any:
        found = struct.unpack_from(f"<{letter}", self._content, self._place)[0]
        self._place += struct.calcsize(letter)
        return found

    def text(self) -> str:
        length = self.number("Q")
        start, self._place = self._place, self._place + length
        return self._content[start : self._place].decode("utf-8")

    def value(self, kind: int) -> Any:
        if kind == _TEXT:
            return self.text()
        if kind != _ARRAY:
            return self.number(_NUMBERS[kind])
        element, length = self.number("I"), self.number("Q")
        return [self.value(element) for _ in range(length)]
