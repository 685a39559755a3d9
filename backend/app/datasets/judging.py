"""How good an answer is beside the one in the data. Plain text in, numbers out."""

import json
import re
import unicodedata
from collections import Counter

_WORD = re.compile(r"[぀-ヿ㐀-鿿가-힯]|[^\W_]+")
"""A word, or one character of the scripts that put no space between words."""
_MISSING = object()


def normalise(text: str) -> str:
    """Return `text` in one case and one spelling, without the spaces and the full stop around it."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split()).rstrip(" .!")


def is_same(answer: str, expected: str) -> bool:
    """Return whether both say the same, but for case, spaces and a full stop."""
    return normalise(answer) == normalise(expected)


def overlap(answer: str, expected: str) -> float:
    """Return the F1 of the words that both share, 0..1 (Rajpurkar et al. 2016, arXiv 1606.05250, section 6)."""
    said, wanted = (Counter(_WORD.findall(normalise(text))) for text in (answer, expected))
    if not said or not wanted:
        return float(said == wanted)
    shared = sum((said & wanted).values())
    return 2 * shared / (said.total() + wanted.total())


def holds(answer: str, accepted: list[str]) -> bool:
    """Return whether `answer` contains one of the accepted words or phrases as a whole."""
    text = f" {' '.join(_WORD.findall(normalise(answer)))} "
    return any(f" {' '.join(_WORD.findall(normalise(phrase)))} " in text for phrase in accepted)


def is_json(text: str) -> bool:
    """Return whether `text` is a JSON object or array."""
    return isinstance(_parse(text), dict | list)


def is_same_json(answer: str, expected: str) -> bool:
    """Return whether both are JSON and mean the same, whatever the order of the names."""
    found = _parse(answer)
    return found is not _MISSING and found == _parse(expected)


def _parse(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return _MISSING
