"""Cells of an Excel workbook that hold an error (#N/A, #DIV/0!): its reader gives them out as empty (ECMA-376-1, 18.3.1.4).

Only for the child process of `decoding`: the XML is a stranger's.
"""

import re
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from xml.etree import ElementTree
from xml.parsers import expat

_CHUNK_BYTES = 1 << 20
_MARK = re.compile(rb"""t\s*=\s*["']e["']""")
_MARK_BYTES = 16
"""Longest mark that a chunk may cut through."""
_WORKBOOK = "xl/workbook.xml"


class ErrorCells(NamedTuple):
    """How many there are, where the first stands ("B2") and what it shows."""

    cells: int
    first: str
    error: str


def find_error_cells(path: Path, sheet: str) -> ErrorCells | None:
    """Return the errors of a sheet of an .xlsx file; None where it has none, and for workbooks of other kinds.

    Raise KeyError, ValueError, ElementTree.ParseError, expat.ExpatError for one that is no strict XML.
    """
    if not zipfile.is_zipfile(path):
        return None
    with zipfile.ZipFile(path) as archive:
        names = {*archive.namelist()}
        part = _find_part(archive, sheet) if _WORKBOOK in names else None
        if part not in names or part is None or not _may_hold_errors(archive, part):
            return None
        found = _Errors()
        parser = expat.ParserCreate(namespace_separator=" ")
        parser.StartElementHandler, parser.EndElementHandler = found.start, found.end
        parser.CharacterDataHandler = found.read
        with archive.open(part) as file:
            parser.ParseFile(file)
    return ErrorCells(found.count, found.cell, found.error) if found.count else None


def _find_part(archive: zipfile.ZipFile, sheet: str) -> str | None:
    """Return the name of the file in which a sheet stands."""
    workbook = ElementTree.fromstring(archive.read(_WORKBOOK))  # noqa: S314 - in a child process under limits
    related = next(
        (
            value
            for element in workbook.iter()
            if element.tag.endswith("}sheet") and element.get("name") == sheet
            for name, value in element.attrib.items()
            if name.endswith("}id")
        ),
        None,
    )
    relations = ElementTree.fromstring(archive.read("xl/_rels/workbook.xml.rels"))  # noqa: S314 - as above
    target = next((one.get("Target") for one in relations if one.get("Id") == related), None)
    return str(PurePosixPath("/xl") / target)[1:] if target else None


def _may_hold_errors(archive: zipfile.ZipFile, part: str) -> bool:
    """Look for the mark of an error: nearly no sheet has one, and parsing takes far longer."""
    kept = b""
    with archive.open(part) as file:
        while chunk := file.read(_CHUNK_BYTES):
            if _MARK.search(kept + chunk):
                return True
            kept = chunk[-_MARK_BYTES:]
    return False


class _Errors:
    """Is told of the elements of a sheet."""

    def __init__(self) -> None:
        self.count = 0
        self.cell = self.error = ""
        self._row = self._column = 0
        self._is_first = self._is_value = False

    def start(self, name: str, attributes: dict[str, Any]) -> None:
        """Count what is an error; of the first, keep the place. A cell without a name stands behind the one before."""
        kind = name.rpartition(" ")[2]
        if kind == "row":
            self._row, self._column = int(attributes.get("r", self._row + 1)), 0
        elif kind == "c":
            self._column += 1
            is_error = attributes.get("t") == "e"
            self.count += is_error
            self._is_first = is_error and self.count == 1
            if self._is_first:
                self.cell = attributes.get("r") or f"R{self._row}C{self._column}"
        self._is_value = kind == "v"

    def end(self, _name: str) -> None:
        """Read no further."""
        self._is_value = False

    def read(self, text: str) -> None:
        """Keep what the first error shows, and not its formula."""
        if self._is_first and self._is_value:
            self.error += text.strip()
