"""How the rows of a step become micro-batches: the sizes. The engine cuts by these rules, the planner counts by them.

A micro-batch is padded, (rows, length), or packed: all rows one behind the other, what they all begin with only once
(training/batching.py). Attention sees `places` (rows times length) in both forms, everything else sees `tokens`.
"""

import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import TypeVar

from app.planner.run_shape import RowLengths, RunShape

T = TypeVar("T")

LENGTH_STEP = 16
"""Rows are padded to a multiple of this many tokens. Matrix products like round sizes, and few different sizes
leave few holes in the heap (embedded model, rows of 60 to 95 tokens, two cores: 344 -> 425 tokens/s, 982 -> 789 MB kept)."""
PACKED_STEP = 32
"""Packed micro-batches are padded to a multiple of this many tokens, as a whole: all their products but those of attention
have this size. Each new size is machine code to be written and kept (planner/prepared.py)."""
PLACES_PER_TOKEN = 2
"""Packed rows may have so many places for each token of the limit: shared tokens stand in each of them."""
CPU_TOKENS = 1024
"""On a processor the micro-batches that are computed at the same time have at most so many tokens, unless each is a single row:
its caches hold the activations of that many (482 against 348 tokens/s at 2048, two cores with AVX-512 BF16)."""
MOST_LANES = 4
"""Micro-batches that a processor computes at the same time, each on its share of the cores. Measured on two cores only."""
ROWS_DRAWN = 512
"""Rows of the steps that are simulated for a plan."""
FEWEST_STEPS = 4
MOST_STEPS = 64


@dataclass(frozen=True, slots=True)
class MicroSize:
    """Size of one micro-batch."""

    rows: int
    length: int
    """Of the longest row, padded (tokens)."""
    tokens: int
    """That pass the model's products, padding counted."""
    row_tokens: float
    """Of all rows, without padding; those that are shared count for each row."""


def cut(rows: Sequence[T], max_rows: int, fits: Callable[[list[T]], bool]) -> list[list[T]]:
    """Cut rows, the longest first, into micro-batches of at most `max_rows` that `fits` accepts; one row always fits."""
    parts: list[list[T]] = []
    for row in rows:
        if parts and len(parts[-1]) < max_rows and fits(more := [*parts[-1], row]):
            parts[-1] = more
        else:
            parts.append([row])
    return parts


def count_lanes(cores: int) -> int:
    """Return how many micro-batches a processor with so many cores computes at the same time."""
    return max(1, min(cores, MOST_LANES))


def cut_evenly(lengths: Sequence[int], max_rows: int, max_tokens: int | None, shared: int | None, lanes: int) -> list[int]:
    """Cut a step's rows, given their lengths, the longest first; return where each micro-batch ends.

    Each has at most `max_rows` rows, and so many tokens that `lanes` of them have at most `max_tokens`; one row always fits.
    Then they are evened out, so that no lane waits long for the others. `shared` as for `count_tokens`.
    """

    sums = [0, *accumulate(lengths)]

    def cut_at(limit: float) -> list[int]:
        ends: list[int] = []
        start = 0
        for place in range(2, len(lengths) + 1):
            rows = place - start
            if rows > 1 and (rows > max_rows or _count(rows, lengths[start], sums[place] - sums[start], shared) > limit):
                ends.append(place - 1)
                start = place - 1
        return [*ends, len(lengths)]

    limit = math.inf if max_tokens is None else max_tokens / lanes
    ends = cut_at(limit)
    if lanes == 1 or len(lengths) == 1:
        return ends
    wanted = min(len(lengths), round_up(len(ends), lanes))
    low: float = lengths[0] - 1
    high = min(limit, count_tokens(lengths, shared))
    best = ends
    while high - low > PACKED_STEP / 2:
        middle = (low + high) / 2
        tried = cut_at(middle)
        if len(tried) <= wanted:
            best, high = tried, middle
        else:
            low = middle
    return best


def count_tokens(lengths: Sequence[int], shared: int | None) -> int:
    """Return what a micro-batch of rows of these lengths, the longest first, counts for the limit.

    `shared` are the tokens that all begin with when it is packed; None when it is padded.
    """
    return _count(len(lengths), lengths[0], sum(lengths), shared)


def _count(rows: int, longest: int, row_tokens: int, shared: int | None) -> int:
    """Return the same for so many rows with so many tokens together."""
    if shared is None:
        return longest * rows
    return max(row_tokens - shared * (rows - 1), round_length(longest) * rows // PLACES_PER_TOKEN)


def round_up(count: int, step: int) -> int:
    """Return the next multiple of `step`."""
    return -(-count // step) * step


def pad_length(length: int, max_length: int, *, packed: bool) -> int:
    """Return the length that a padded micro-batch gets (or a single row where several would be packed)."""
    return min(round_up(length, PACKED_STEP if packed else LENGTH_STEP), max_length)


@lru_cache(maxsize=4096)
def round_length(length: int) -> int:
    """Return the length that attention pads packed rows of `length` tokens to: a round one, and few different ones."""
    step = LENGTH_STEP if length <= 8 * LENGTH_STEP else 2 * LENGTH_STEP if length <= 16 * LENGTH_STEP else 4 * LENGTH_STEP
    return round_up(length, step)


def measure_part(lengths: Sequence[int], max_length: int, shared: int | None) -> MicroSize:
    """Return the size of the micro-batch that rows of these lengths, the longest first, make."""
    count, row_tokens = len(lengths), float(sum(lengths))
    if shared is None or count == 1:
        length = pad_length(lengths[0], max_length, packed=shared is not None)
        return MicroSize(count, length, count * length, row_tokens)
    tokens = round_up(sum(lengths) - shared * (count - 1), PACKED_STEP)
    return MicroSize(count, min(round_length(lengths[0]), max_length), tokens, row_tokens)


@dataclass(frozen=True, slots=True)
class StepSizes:
    """The micro-batches of some simulated optimizer steps."""

    of_steps: tuple[tuple[MicroSize, ...], ...]
    """The micro-batches of each."""
    heaviest: tuple[tuple[MicroSize, ...], ...]
    """Those that are computed at the same time where that can take the most memory: the most tokens, the most scores."""

    @property
    def steps(self) -> int:
        """How many were simulated."""
        return len(self.of_steps)

    @property
    def parts(self) -> list[MicroSize]:
        """The micro-batches of all steps."""
        return [part for parts in self.of_steps for part in parts]

    def count_sizes(self, steps: int) -> tuple[float, float]:
        """Return how many different (tokens) and (rows, length) the micro-batches of `steps` steps have, about."""
        later = max(0.0, steps / self.steps - 1)
        return (
            _extrapolate(Counter(part.tokens for part in self.parts), later),
            _extrapolate(Counter((part.rows, part.length) for part in self.parts), later),
        )


def _extrapolate(seen: Counter[int] | Counter[tuple[int, int]], later: float) -> float:
    """Return the kinds to be expected after `later` times as many more draws.

    From the kinds seen once and twice (Chao et al. 2014, doi 10.1890/13-0133.1): f1^2 / (2 f2) kinds were not seen yet.
    """
    counts = Counter(seen.values())
    once, twice, draws = counts[1], counts[2], seen.total()
    unseen = once * once / (2 * twice) if twice else once * (once - 1) / 2
    if not unseen:
        return float(len(seen))
    return len(seen) + unseen * -math.expm1(-later * draws * once / (draws * unseen + once))


def simulate_steps(lengths: RowLengths, run: RunShape, rows_per_step: int, max_length: int, steps: int = MOST_STEPS) -> StepSizes:
    """Return the micro-batches of up to `steps` optimizer steps of random rows with these lengths; always the same draw."""
    steps = max(1, min(steps, MOST_STEPS, max(FEWEST_STEPS, ROWS_DRAWN // rows_per_step)))
    shared = lengths.shared if run.packed else None
    limit = CPU_TOKENS if run.device == "cpu" else None
    rows = min(rows_per_step, ROWS_DRAWN)
    return _simulate(lengths.quantiles, shared, run.micro_batch, limit, run.lanes, rows, max_length, steps)


@lru_cache(maxsize=512)
def _simulate(  # noqa: PLR0917
    quantiles: tuple[int, ...],
    shared: int | None,
    max_rows: int,
    limit: int | None,
    lanes: int,
    rows: int,
    max_length: int,
    steps: int,
) -> StepSizes:
    parts: list[tuple[MicroSize, ...]] = []
    drawn = _draw(quantiles, rows * steps, max_length)
    common = None if shared is None else max(0, min(shared, min(drawn) - 1))

    for step in range(steps):
        ordered = sorted(drawn[step * rows : (step + 1) * rows], reverse=True)
        ends = cut_evenly(ordered, max_rows, limit, common, lanes)
        parts.append(tuple(measure_part(ordered[start:end], max_length, common) for start, end in pairwise([0, *ends])))
    return StepSizes(tuple(parts), _find_heaviest(parts, lanes))


def _find_heaviest(steps: Sequence[tuple[MicroSize, ...]], lanes: int) -> tuple[tuple[MicroSize, ...], ...]:
    held = [parts[at : at + lanes] for parts in steps for at in range(max(1, len(parts) - lanes + 1))]
    largest = (
        max(held, key=lambda parts: sum(part.tokens for part in parts)),
        max(held, key=lambda parts: sum(part.rows * part.length**2 for part in parts)),
    )
    return tuple(dict.fromkeys(largest))


@lru_cache(maxsize=256)
def _draw(quantiles: tuple[int, ...], rows: int, max_length: int) -> tuple[int, ...]:
    """Return `rows` random lengths: evenly spread over the distribution, in random order."""
    last = len(quantiles) - 1
    drawn = []
    for k in range(rows):
        place = (k + 0.5) / rows * last
        low = min(int(place), max(0, last - 1))
        high = min(low + 1, last)
        drawn.append(min(max_length, round(quantiles[low] + (quantiles[high] - quantiles[low]) * (place - low))))
    random.Random(rows).shuffle(drawn)  # noqa: S311  reproducible on purpose
    return tuple(drawn)
