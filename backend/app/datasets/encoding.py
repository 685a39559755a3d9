"""Which kind of bytes a file holds: refuse what is no text, find the character encoding of what is."""

import codecs
import re
from collections.abc import Iterator
from pathlib import Path

from charset_normalizer import from_bytes

from app.core.errors import DatasetInvalid, Unsupported
from app.datasets.json_values import move_place

_SAMPLE_BYTES = 1 << 16
_CHUNK_BYTES = 1 << 16

_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""UTF-32 before UTF-16: the mark of the first begins with the mark of the second."""

_SIGNATURES = (
    (b"PK\x03\x04", "compressed"),
    (b"\x1f\x8b", "compressed"),
    (b"7z\xbc\xaf\x27\x1c", "compressed"),
    (b"\x28\xb5\x2f\xfd", "compressed"),
    (b"%PDF-", "document"),
    (b"{\\rtf", "document"),
    (b"SQLite format 3\x00", "binary"),
    (b"\x89PNG", "binary"),
    (b"\xff\xd8\xff", "binary"),
)

_TAR_OFFSET, _TAR = 257, b"ustar"

_NUL = "\0"
_BINARY_BYTES = bytes({*range(0x01, 0x08), *range(0x0E, 0x1A), *range(0x1C, 0x20)})
"""Control characters that no text holds."""
_STRAY_SHARE = 0.1
"""With a larger share of zeros up to the last other byte a file is no text in which some are left over."""

_JAPANESE = "cp932"
_KANA = re.compile(r"[\u3041-\u30fe]")
_KANA_SHARE = 0.2
"""Of the characters beyond ASCII; read as Shift_JIS, neither Chinese nor Korean text comes near it."""

_WESTERN = ("cp1252", "iso8859-15", "mac_roman", "cp850")
"""Of Windows, older Unix, older Macs and DOS; the first wins where two make equally good words."""
_LETTERS = set("àâäáãåæçéèêëíìîïñóòôöõøœšúùûüýÿžßÀÂÄÁÃÅÆÇÉÈÊËÍÌÎÏÑÓÒÔÖÕØŒŠÚÙÛÜÝŸŽ’‘“”«»…–—€°ºª£§©®™·•²³½¼¾×¿¡ \xa0")
"""What stands beyond ASCII in western European text."""
_LIKELY = 0.95
_FOREIGN_WORD = re.compile(r"[^\W\d_\x00-\x7f]{3,}")


def detect_encoding(path: Path) -> str:
    """Return the Python name of the file's encoding.

    Raise Unsupported for what is no text, DatasetInvalid (`empty_file`, `bad_encoding`, `nul_character`) otherwise. UTF-8 is
    checked over the whole file; other encodings have no such proof and are recognised by what western text looks like.
    """
    with path.open("rb") as file:
        head = file.read(_SAMPLE_BYTES)
    if not head.strip(b" \t\r\n\x00\xef\xbb\xbf\xff\xfe"):
        raise DatasetInvalid("empty_file")
    for mark, encoding in _BYTE_ORDER_MARKS:
        if head.startswith(mark):
            _check_decodes(path, encoding)
            return encoding
    _refuse_binary(head)
    if b"\x00" in head:
        if _holds_stray_zeros(head):
            raise _nul_character(path, "utf-8")
        encoding = _utf16_without_mark(head)
        _check_decodes(path, encoding)
        return encoding
    offset, proven = _first_broken_byte(path)
    if offset is None:
        return "utf-8"
    if proven:
        raise DatasetInvalid("bad_encoding", line=_line_at(path, offset), encoding="UTF-8")
    with path.open("rb") as file:
        file.seek(max(0, offset - _SAMPLE_BYTES // 2))
        sample = file.read(_SAMPLE_BYTES)
    encoding = _single_byte_encoding(sample)
    _check_decodes(path, encoding)
    return encoding


def _refuse_binary(head: bytes) -> None:
    for signature, kind in _SIGNATURES:
        if head.startswith(signature):
            raise Unsupported(kind)
    if head[_TAR_OFFSET:].startswith(_TAR):
        raise Unsupported("compressed")


def _holds_stray_zeros(head: bytes) -> bool:
    """Say whether zeros stand in what is text but for them: left over from a crash, or from a program in C."""
    kept = head.rstrip(b"\x00")
    return kept.count(0) <= _STRAY_SHARE * len(kept) and len(kept) == len(kept.translate(None, _BINARY_BYTES))


def _nul_character(path: Path, encoding: str) -> DatasetInvalid:
    """Make the refusal that names the place of the first NUL character."""
    decoder = codecs.getincrementaldecoder(encoding)("replace")
    line = column = 1
    for chunk in _chunks(path):
        before, nul, _ = decoder.decode(chunk).partition(_NUL)
        line, column = move_place(before, line, column)
        if nul:
            break
    return DatasetInvalid("nul_character", line=line, column=column)


def _utf16_without_mark(head: bytes) -> str:
    """Western text in UTF-16 has a zero in nearly every second byte. Raise Unsupported otherwise."""
    even, odd = head[0::2].count(0) / len(head[0::2]), head[1::2].count(0) / max(1, len(head[1::2]))
    if odd > 0.3 and even < 0.05:
        return "utf-16-le"
    if even > 0.3 and odd < 0.05:
        return "utf-16-be"
    raise Unsupported("binary")


def _first_broken_byte(path: Path) -> tuple[int | None, bool]:
    """Return the offset of the first byte that is not UTF-8, and whether real UTF-8 beyond ASCII stands before it.

    Raise DatasetInvalid (`nul_character`).
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    offset, proven = 0, False
    for chunk in _chunks(path):
        if b"\x00" in chunk:
            raise _nul_character(path, "utf-8")
        waiting = len(decoder.getstate()[0])
        try:
            text = decoder.decode(chunk)
        except UnicodeDecodeError as error:
            proven = proven or any(byte > 0x7F for byte in error.object[: error.start])
            return offset - waiting + error.start, proven
        proven = proven or not text.isascii()
        offset += len(chunk)
    waiting = len(decoder.getstate()[0])
    return (offset - waiting, proven) if waiting else (None, proven)


def _single_byte_encoding(sample: bytes) -> str:
    """Choose the western encoding whose letters make words; else what charset-normalizer finds more likely."""
    best = max(_WESTERN, key=lambda encoding: _likelihood(sample, encoding))
    if _likelihood(sample, best) >= _LIKELY:
        return best
    if _kana_share(sample, _JAPANESE) >= _KANA_SHARE:
        return _JAPANESE
    found = from_bytes(sample).best()
    if found is None:
        raise Unsupported("binary")
    return found.encoding


def _likelihood(sample: bytes, encoding: str) -> float:
    """Return the share of characters beyond ASCII that western text has there.

    There no capital stands behind a small letter, and no three letters with accents stand together.
    """
    text = sample.decode(encoding, errors="replace")
    pairs = [(before, letter) for before, letter in zip(f" {text}", text, strict=False) if letter > "\x7f"]
    likely = sum(letter in _LETTERS and not (letter.isupper() and before.islower()) for before, letter in pairs)
    return (likely - sum(map(len, _FOREIGN_WORD.findall(text)))) / max(1, len(pairs))


def _kana_share(sample: bytes, encoding: str) -> float:
    """Return the share of full-width kana in the characters beyond ASCII; nothing where the bytes are not of that encoding."""
    text = sample.decode(encoding, errors="replace")
    if text.count("\ufffd") > 2:  # the sample may begin and end within a character
        return 0.0
    foreign = sum(letter > "\x7f" for letter in text)
    return len(_KANA.findall(text)) / max(1, foreign)


def _check_decodes(path: Path, encoding: str) -> None:
    """Raise DatasetInvalid (`bad_encoding`, `nul_character`) where the file breaks off being text in `encoding`."""
    decoder = codecs.getincrementaldecoder(encoding)()
    line = 1
    try:
        for chunk in _chunks(path):
            text = decoder.decode(chunk)
            if _NUL in text:
                raise _nul_character(path, encoding)
            line += text.count("\n")
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise DatasetInvalid("bad_encoding", line=line, encoding=encoding.upper()) from error


def _line_at(path: Path, offset: int) -> int:
    line, seen = 1, 0
    for chunk in _chunks(path):
        line += chunk[: max(0, offset - seen)].count(b"\n")
        seen += len(chunk)
        if seen >= offset:
            break
    return line


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk
