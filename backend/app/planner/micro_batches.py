"""How the rows of a step become micro-batches: the sizes. The engine cuts by these rules, the planner counts by them.

A micro-batch is padded, (rows, length), or packed: all rows one behind the other, what they all begin with only once
(training/batching.py). Attention sees `places` (rows times length) in both forms, everything else sees `tokens`.
"""

import heapq
import math
import random
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import accumulate, chain, pairwise

from app.planner.run_shape import RowLengths, RunShape

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
PART_TOKENS = 32
"""What a micro-batch costs beside its tokens, in tokens (embedded model, AMD EPYC: 0.13 s beside 3.95 ms a token, one core)."""
LIMITS_TRIED = 4
"""Limits below the allowed one at which a step is cut too; eight gained less than half a percent more (simulated)."""
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


def count_lanes(cores: int) -> int:
    """Return how many micro-batches a processor with so many cores computes at the same time."""
    return max(1, min(cores, MOST_LANES))


def cut_evenly(lengths: Sequence[int], max_rows: int, max_tokens: int | None, shared: int | None, lanes: int) -> list[int]:
    """Cut a step's rows, given their lengths, the longest first; return where each micro-batch ends.

    Each has at most `max_rows` rows, and so many tokens that `lanes` of them have at most `max_tokens`; one row always fits.
    Of such cuts it is one after which the lanes end early. `shared` as for `count_tokens`.
    """

    count = len(lengths)
    # Tokens up to each row, those that all begin with left out.
    sums = list(accumulate((length - (shared or 0) for length in lengths), initial=0))

    def cut_at(limit: float, most: int) -> list[int] | None:
        """Return where each ends if none may count more than `limit`; None when there would be more than `most`."""
        ends: list[int] = []
        start = 0
        while start < count:
            if len(ends) == most:
                return None
            end = min(count, start + max_rows)
            # The furthest row with which the part still counts at most `limit`, as `count_tokens` says.
            if shared is None:
                end = min(end, start + int(limit) // lengths[start])
            else:
                places = PLACES_PER_TOKEN * (int(limit) + 1) - 1
                end = min(end, start + places // round_length(lengths[start]))
                end = bisect_right(sums, sums[start] + limit - shared, start, end + 1) - 1
            start = max(start + 1, end)
            ends.append(start)
        return ends

    def count_part(start: int, end: int) -> int:
        if shared is None:
            return lengths[start] * (end - start)
        places = round_length(lengths[start]) * (end - start)
        return max(sums[end] - sums[start] + shared, places // PLACES_PER_TOKEN)

    everything = PLACES_PER_TOKEN * count * round_length(lengths[0])
    return _balance(cut_at, count_part, count, lanes, everything if max_tokens is None else max_tokens / lanes)


def cut_groups(groups: int, most: int, count: Callable[[int, int], int], max_tokens: int | None, lanes: int) -> list[int]:
    """Cut a step's groups of rows, the longest first, as `cut_evenly` cuts rows; return where each micro-batch ends.

    Each has at most `most` groups; `count(start, end)` is what these groups count for the limit as one micro-batch.
    """

    def cut_at(limit: float, parts: int) -> list[int] | None:
        ends: list[int] = []
        start = 0
        while start < groups:
            if len(ends) == parts:
                return None
            end = start + 1
            while end < min(groups, start + most) and (limit == math.inf or count(start, end + 1) <= limit):
                end += 1
            ends.append(start := end)
        return ends

    return _balance(cut_at, count, groups, lanes, math.inf if max_tokens is None else max_tokens / lanes)


def _balance(
    cut_at: Callable[[float, int], list[int] | None], count_part: Callable[[int, int], int], count: int, lanes: int, limit: float
) -> list[int]:
    """Return of some cuts whose parts count at most `limit` the one after which `lanes` lanes end first.

    `cut_at` returns where each of `count` things' parts ends if none may count more than a limit; None when there would be
    more than so many. `count_part` is what the things from one place to another count as one part.
    """
    fewest = cut_at(limit, count)
    assert fewest is not None, "one thing always fits"
    if lanes == 1 or count == 1:
        return fewest
    tried = [fewest]
    # The lowest limit with as many parts as occupy all lanes.
    wanted = min(count, round_up(len(fewest), lanes))
    first = count_part(0, 1)
    low: float = first - 1
    high = limit = min(limit, count_part(0, count))
    while high - low > PACKED_STEP / 2:
        middle = (low + high) / 2
        if cut := cut_at(middle, wanted):
            tried.append(cut)
            high = middle
        else:
            low = middle
    # A long row alone leaves the others to be shared out: in smaller parts.
    least = min(first, limit) / 2
    tried += [cut for k in range(LIMITS_TRIED) if (cut := cut_at(least + (limit - least) * k / LIMITS_TRIED, count))]

    def judge(ends: list[int]) -> tuple[float, int]:
        return find_end([count_part(start, end) + PART_TOKENS for start, end in pairwise([0, *ends])], lanes), len(ends)

    return min(reversed(tried), key=judge)


def find_end(costs: Sequence[float], lanes: int) -> float:
    """Return when the last of these is done if each, in this order, goes to the lane that is free first."""
    ends = [0.0] * lanes
    for cost in costs:
        heapq.heapreplace(ends, ends[0] + cost)
    return max(ends)


def count_tokens(lengths: Sequence[int], shared: int | None) -> int:
    """Return what a micro-batch of rows of these lengths, the longest first, counts for the limit.

    `shared` are the tokens that all begin with when it is packed; None when it is padded.
    """
    rows = len(lengths)
    if shared is None:
        return lengths[0] * rows
    return max(sum(lengths) - shared * (rows - 1), round_length(lengths[0]) * rows // PLACES_PER_TOKEN)


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
class Kinds:
    """How many different ones some draws showed, and how many of these once and twice."""

    seen: int
    once: int
    twice: int
    draws: int

    def extrapolate(self, later: float) -> float:
        """Return the kinds to be expected after `later` times as many more draws.

        From the kinds seen once and twice (Chao et al. 2014, doi 10.1890/13-0133.1): f1^2 / (2 f2) kinds were not seen yet.
        """
        once, twice = self.once, self.twice
        unseen = once * once / (2 * twice) if twice else once * (once - 1) / 2
        if not unseen:
            return float(self.seen)
        return self.seen + unseen * -math.expm1(-later * self.draws * once / (self.draws * unseen + once))


def tally(draws: Iterable[Hashable]) -> Kinds:
    """Count the kinds among `draws`."""
    seen = Counter(draws)
    counts = Counter(seen.values())
    return Kinds(len(seen), counts[1], counts[2], seen.total())


@dataclass(frozen=True, slots=True)
class StepSizes:
    """The micro-batches of some simulated optimizer steps."""

    of_steps: tuple[tuple[MicroSize, ...], ...]
    """The micro-batches of each."""
    heaviest: tuple[tuple[MicroSize, ...], ...]
    """Those that are computed at the same time where that can take the most memory: the most tokens, the most scores."""
    token_kinds: Kinds
    """Of the micro-batches' tokens."""
    place_kinds: Kinds
    """Of their rows and length."""

    @property
    def steps(self) -> int:
        """How many were simulated."""
        return len(self.of_steps)

    def count_sizes(self, steps: int) -> tuple[float, float]:
        """Return how many different (tokens) and (rows, length) the micro-batches of `steps` steps have, about."""
        later = max(0.0, steps / self.steps - 1)
        return self.token_kinds.extrapolate(later), self.place_kinds.extrapolate(later)


def simulate_steps(lengths: RowLengths, run: RunShape, rows_per_step: int, max_length: int, steps: int = MOST_STEPS) -> StepSizes:
    """Return the micro-batches of up to `steps` optimizer steps of random examples with these lengths; always the same draw.

    `rows_per_step` are examples. Of a pair both answers count as long as the longer one, and nothing but what all rows begin
    with as shared: more than they take where they share a long question.
    """
    steps = max(1, min(steps, MOST_STEPS, max(FEWEST_STEPS, ROWS_DRAWN // rows_per_step)))
    shared = lengths.shared if run.packed else None
    limit = CPU_TOKENS if run.device == "cpu" else None
    rows = min(rows_per_step, ROWS_DRAWN)
    return _simulate(lengths.quantiles, shared, run.micro_batch, limit, run.lanes, rows, max_length, steps, run.group)


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
    group: int,
) -> StepSizes:
    parts: list[tuple[MicroSize, ...]] = []
    drawn = _draw(quantiles, rows * steps, max_length)
    common = None if shared is None else max(0, min(shared, min(drawn) - 1))

    for step in range(steps):
        ordered = sorted(drawn[step * rows : (step + 1) * rows], reverse=True)
        if group == 1:
            ends = cut_evenly(ordered, max_rows, limit, common, lanes)
        else:
            ordered = [length for length in ordered for _ in range(group)]
            count = partial(_count_groups, ordered, common, group)
            ends = [group * end for end in cut_groups(rows, max(1, max_rows // group), count, limit, lanes)]
        parts.append(tuple(measure_part(ordered[start:end], max_length, common) for start, end in pairwise([0, *ends])))
    flat = list(chain.from_iterable(parts))
    return StepSizes(
        tuple(parts),
        _find_heaviest(parts, lanes),
        tally(part.tokens for part in flat),
        tally((part.rows, part.length) for part in flat),
    )


def _count_groups(lengths: Sequence[int], shared: int | None, group: int, start: int, end: int) -> int:
    return count_tokens(lengths[group * start : group * end], shared)


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
