"""Unpack what a file is packed in: gzip, bzip2, xz, or a zip archive with one file.

The unpacked size is limited, so that a small file cannot fill the disk.
"""

import bz2
import gzip
import lzma
import os
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePath
from typing import IO

from app.contracts.dataset import Container
from app.core.errors import DatasetInvalid, TooLarge, Unsupported
from app.datasets.rows import Watch, unwatched

MAX_DECODED_BYTES = 8 << 30
"""Largest unpacked file."""
MAX_RATIO = 1000
"""Deflate cannot shrink more than 1,032-fold (zlib, "Maximum Expansion Factor"); whoever comes near it packed nothing but
one letter. Only tested beyond FREE_BYTES."""
FREE_BYTES = 64 << 20
_CHUNK_BYTES = 1 << 20
_ENCRYPTED = 1
"""Flag of a member of a zip archive (APPNOTE 4.4.4)."""

_Packed = gzip.GzipFile | bz2.BZ2File | lzma.LZMAFile | IO[bytes]
_OPENERS: tuple[tuple[bytes, Container, Callable[[IO[bytes]], gzip.GzipFile | bz2.BZ2File | lzma.LZMAFile]], ...] = (
    (b"\x1f\x8b", "gzip", lambda raw: gzip.GzipFile(fileobj=raw)),
    (b"BZh", "bzip2", bz2.BZ2File),
    (b"\xfd7zXZ\x00", "xz", lzma.LZMAFile),
)
_BROKEN = (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError)
"""What the readers of the standard library raise on damaged or encrypted archives."""


def unpack(path: Path, filename: str, target: Path, watch: Watch = unwatched) -> tuple[str, Container] | None:
    """Write the unpacked content to `target`; return the name of the file inside and the container.

    None where `path` is not packed (spreadsheets are zip archives too, and are not unpacked here).
    Raise Unsupported (`zip_members`, `document`), DatasetInvalid (`damaged_archive`, `archive_password`), TooLarge (`decoded`,
    `packed_too_well`).
    """
    with path.open("rb") as file:
        head = file.read(8)
    for signature, container, opener in _OPENERS:
        if head.startswith(signature):
            try:
                with path.open("rb") as raw, opener(raw) as packed:
                    _copy(packed, target, raw, watch)
            except _BROKEN as error:
                raise _damaged(error) from error
            return _inner_name(filename), container
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        name = _unzip(path, target, watch)
        return (name, "zip") if name is not None else None
    return None


def is_spreadsheet(path: Path) -> bool:
    """Say whether a zip archive is a workbook of Excel or OpenDocument."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
            if "mimetype" in names and b"opendocument.spreadsheet" in archive.read("mimetype")[:100]:
                return True
    except _BROKEN:
        return False
    return any(name.startswith("xl/workbook") for name in names)


def _unzip(path: Path, target: Path, watch: Watch) -> str | None:
    try:
        with path.open("rb") as raw, zipfile.ZipFile(raw) as archive:
            members = [member for member in archive.infolist() if not member.is_dir() and not _is_litter(member.filename)]
            names = {member.filename for member in members}
            if is_spreadsheet(path):
                return None
            if any(name.startswith(("word/", "ppt/")) for name in names) or "META-INF/container.xml" in names:
                raise Unsupported("document")
            if len(members) != 1:
                shown = ", ".join(sorted(names)[:5]) or "-"
                raise Unsupported("zip_members", count=len(members), names=shown)
            if members[0].flag_bits & _ENCRYPTED:
                raise DatasetInvalid("archive_password")
            with archive.open(members[0]) as packed:
                _copy(packed, target, raw, watch)
            return PurePath(members[0].filename).name
    except _BROKEN as error:
        raise _damaged(error) from error


def _copy(packed: _Packed, target: Path, raw: IO[bytes], watch: Watch) -> None:
    """Write what `packed` reads out of the file `raw`."""
    written = 0
    packed_bytes = os.fstat(raw.fileno()).st_size
    with target.open("wb") as file:
        while chunk := packed.read(_CHUNK_BYTES):
            written += len(chunk)
            if written > MAX_DECODED_BYTES:
                raise TooLarge("decoded", most=f"{MAX_DECODED_BYTES >> 30} GiB")
            if written > FREE_BYTES and written > MAX_RATIO * packed_bytes:
                raise TooLarge("packed_too_well", ratio=MAX_RATIO)
            file.write(chunk)
            watch("unpacking", raw.tell(), packed_bytes)


def _inner_name(filename: str) -> str:
    path = PurePath(filename)
    return path.stem if path.suffix.lower() in (".gz", ".gzip", ".bz2", ".xz") else filename


def _is_litter(name: str) -> bool:
    """What macOS and Windows put into archives unasked."""
    plain = PurePath(name).name
    return name.startswith("__MACOSX/") or plain.startswith("._") or plain in (".DS_Store", "Thumbs.db", "desktop.ini")


def _damaged(error: Exception) -> DatasetInvalid:
    return DatasetInvalid("damaged_archive", reason=" ".join(str(error).split())[:120] or type(error).__name__)
