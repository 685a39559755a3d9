"""How long rows are in tokens: a histogram with a place for the cut, and what the cut takes away."""

from bisect import bisect_right
from collections.abc import Sequence

from app.contracts.frozen import Frozen
from app.contracts.options import LongRows

MOST_BINS = 32
"""Bars that can be told from each other on a narrow screen."""
SHOWN_SHARE = 0.98
"""Share of the rows that the bars of equal width reach to; the longest rows share the last bar."""
STEPS = (1, 2, 4, 5, 8)
"""Widths of a bar, times a power of ten: ends are round numbers."""


class LengthBin(Frozen):
    """Rows with `first` to `last` tokens, both counted in."""

    first: int
    last: int | None
    """None: no upper end."""
    rows: int


def count_lengths(lengths: Sequence[int], max_length: int) -> list[LengthBin]:
    """Return a histogram of `lengths` that reaches to `max_length` where a row is longer. No bins for no rows."""
    if not lengths:
        return []
    ordered = sorted(lengths)
    usual = ordered[min(len(ordered) - 1, int(SHOWN_SHARE * len(ordered)))]
    reach = max(usual, min(max_length, ordered[-1]))
    width = _bar_width(reach)
    bins: list[LengthBin] = []
    seen = 0
    for first in range(1, reach + 1, width):
        below = bisect_right(ordered, first + width - 1)
        bins.append(LengthBin(first=first, last=first + width - 1, rows=below - seen))
        seen = below
    if seen < len(ordered):
        bins.append(LengthBin(first=reach - (reach - 1) % width + width, last=None, rows=len(ordered) - seen))
    return bins


def share_cut(lengths: Sequence[int], max_length: int, long_rows: LongRows) -> tuple[float, float]:
    """Return the share of the rows that are longer than `max_length`, and that of all tokens that are not trained on for it."""
    longer = [length for length in lengths if length > max_length]
    if not longer:
        return 0.0, 0.0
    lost = 0 if long_rows == "split" else sum(longer) - (0 if long_rows == "drop" else max_length * len(longer))
    return len(longer) / len(lengths), lost / sum(lengths)


def _bar_width(reach: int) -> int:
    scale = 1
    while True:
        for step in STEPS:
            if -(-reach // (step * scale)) <= MOST_BINS:
                return step * scale
        scale *= 10
