"""Rows that say nearly the same: at least four fifths of their runs of three words are shared.

Candidates are found by hashing (minima of one permutation in 32 bins, eight bands of four: Broder 1997; Li, Owen, Zhang
2012), and every candidate is compared exactly. Keys lie in files, one band at a time is in memory.
"""

import os
import re
from array import array
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np

from app.datasets.equal_keys import group_equal

LEAST_SHARED = 0.8
"""Jaccard similarity from which on rows count as nearly the same."""

_WORD = re.compile(r"\w+")
_BINS, _BANDS = 32, 8
_BAND_BINS = _BINS // _BANDS
_BOUNDS = np.arange(_BINS, dtype=np.uint64) << np.uint64(59)
_BAND_BYTES = 8 * _BAND_BINS
_64_BITS = (1 << 64) - 1
_FACTORS = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9)
"""Odd numbers, one for each word of a run: together with the words' hashes they number the run."""
_BETWEEN_WORDS = bytes(code if chr(code).isalnum() or chr(code) == "_" or code > 0x7F else 0x20 for code in range(256))
"""Of ASCII, a space for everything that is in no word."""
_LONG_WORD = 15
"""Mean characters of a word from which on a text is written without spaces."""
_REPRESENTATIVES = 4
"""With how many rows of a group of candidates a row is compared."""
_COMPARISONS_PER_ROW = 4
"""Mean number of exact comparisons after which the search ends: rows of one template are all candidates."""
_WRITE_KEYS = 1 << 13


def split_words(text: str) -> list[str]:
    """Return the words in lower case."""
    if text.isascii():
        return text.lower().encode().translate(_BETWEEN_WORDS).decode().split()
    return _WORD.findall(text.lower())


def make_shingles(text: str, words: list[str]) -> "np.ndarray[tuple[int], np.dtype[np.uint64]]":
    """Return a number for every run of three words (letters, in writing without spaces), in ascending order, some repeated.

    The numbers are the same in one process only.
    """
    parts = words
    if len(text) > _LONG_WORD * max(1, len(words)):
        parts = [letter for letter in text if letter.isalnum()]
    if len(parts) < 3:
        return np.array([hash(tuple(parts)) & _64_BITS], dtype=np.uint64)
    codes = np.fromiter(map(hash, parts), dtype=np.int64, count=len(parts)).view(np.uint64)
    runs = codes[:-2] * _FACTORS[0] + codes[1:-1] * _FACTORS[1] + codes[2:] * _FACTORS[2]
    runs.sort()
    return runs


class NearDuplicates:
    """Takes the rows one after the other; then says which of them repeat an earlier one."""

    def __init__(self, scratch: Path, read_text: Callable[[int], str]) -> None:
        """`scratch` is an empty folder; `read_text` returns the text of the row at a place, from 0."""
        self._paths = [scratch / f"band{band}" for band in range(_BANDS)]
        self._waiting = [array("Q") for _ in range(_BANDS)]
        self._read_text = read_text
        self._shingles = lru_cache(maxsize=512)(self._read_shingles)
        self._rows = 0
        self.complete = True
        """False: there were more candidates than could be compared."""

    def add(self, shingles: "np.ndarray[tuple[int], np.dtype[np.uint64]]") -> None:
        """Take the next row: its runs in ascending order."""
        # An empty bin takes the minimum of the next one.
        minima = shingles.take(shingles.searchsorted(_BOUNDS), mode="wrap").tobytes()
        for band, waiting in enumerate(self._waiting):
            waiting.append(hash(minima[band * _BAND_BYTES : (band + 1) * _BAND_BYTES]) & _64_BITS)
        self._rows += 1
        if self._rows % _WRITE_KEYS == 0:
            self._write()

    def find(self, skipped: bytearray) -> "array[int]":
        """Return, for every row, the first row that it nearly repeats (itself where there is none).

        Rows marked in `skipped` are not looked at: they repeat an earlier row exactly.
        """
        self._write()
        first_of = array("I", range(self._rows))

        def root(place: int) -> int:
            while first_of[place] != place:
                first_of[place] = first_of[first_of[place]]
                place = first_of[place]
            return place

        left = _COMPARISONS_PER_ROW * self._rows + 10_000
        for group in self._candidates(skipped):
            representatives: list[int] = []
            for place in group:
                for known in representatives:
                    if root(known) == root(place):
                        break
                    left -= 1
                    if left >= 0 and self._alike(known, place):
                        low, high = sorted((root(known), root(place)))
                        first_of[high] = low
                        break
                else:
                    if len(representatives) < _REPRESENTATIVES:
                        representatives.append(place)
            if left < 0:
                self.complete = False
                break
        return array("I", map(root, range(self._rows)))

    def _candidates(self, skipped: bytearray) -> Iterator[list[int]]:
        for path in self._paths:
            keys = array("Q")
            with path.open("rb") as file:
                keys.fromfile(file, os.fstat(file.fileno()).st_size // keys.itemsize)
            for group in group_equal(keys):
                kept = [place for place in group if not skipped[place]]
                if len(kept) > 1:
                    yield kept

    def _alike(self, one: int, other: int) -> bool:
        first, second = self._shingles(one), self._shingles(other)
        shared = len(first & second)
        return shared >= LEAST_SHARED * (len(first) + len(second) - shared)

    def _read_shingles(self, place: int) -> set[int]:
        text = self._read_text(place)
        return set(make_shingles(text, split_words(text)).tolist())

    def _write(self) -> None:
        for path, waiting in zip(self._paths, self._waiting, strict=True):
            with path.open("ab") as file:
                waiting.tofile(file)
            del waiting[:]
