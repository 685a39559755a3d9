"""Plain text: one row per paragraph, or per line where there are no blank lines."""

from collections.abc import Iterator
from pathlib import Path

from app.core.errors import TooLarge
from app.datasets.rows import MAX_ROW_CHARACTERS, Place, RawRow

TEXT_COLUMN = "text"
_SAMPLE_LINES = 2000


def read_text_rows(path: Path, encoding: str, place: Place | None = None) -> Iterator[RawRow]:
    """Yield the paragraphs; blank lines separate them. Raise TooLarge for one beyond MAX_ROW_CHARACTERS."""
    paragraphs = _has_paragraphs(path, encoding)
    waiting: list[str] = []
    length = row = 0
    with path.open(encoding=encoding) as file:
        if place is not None:
            place.follow(file)
        while line := file.readline(MAX_ROW_CHARACTERS + 1):
            length += len(line)
            if length > MAX_ROW_CHARACTERS:
                raise TooLarge("row", row=row + 1, most=MAX_ROW_CHARACTERS)
            if line.strip():
                waiting.append(line)
                if paragraphs:
                    continue
            if waiting:
                row += 1
                yield RawRow(row, {TEXT_COLUMN: "".join(waiting).rstrip("\n")})
                waiting, length = [], 0
    if waiting:
        yield RawRow(row + 1, {TEXT_COLUMN: "".join(waiting).rstrip("\n")})


def _has_paragraphs(path: Path, encoding: str) -> bool:
    """Say whether a blank line stands between two lines of text at the beginning."""
    seen = blank = False
    with path.open(encoding=encoding) as file:
        for _ in range(_SAMPLE_LINES):
            line = file.readline(MAX_ROW_CHARACTERS)
            if not line:
                return False
            if not line.strip():
                blank = seen
            elif blank:
                return True
            else:
                seen = True
    return False
