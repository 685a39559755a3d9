"""Choose what a person left open: the quickest variant whose upper bound fits, giving up as little as possible.

What is given up, in this order: nothing; recomputation and smaller micro-batches (time only); 16 for 4 bits, or a smaller
precision (a little quality); the safety of the bound; at last the ends of long rows. `speed` weighs all variants by time
alone and may cut the longest twentieth of the rows; `quality` lengthens max_length until no row is cut.
"""

from dataclasses import dataclass
from itertools import product as combine

from app.contracts.options import Dtype, Objective, Quantization
from app.planner.candidates import MOST_BATCH, Candidate, Estimator, Knobs, list_splits

CLEARLY = 0.95
"""A variant that differs more from what was asked must be 5 % quicker to be worth it."""
SHORTEST_LENGTH = 64
"""max_length is never lowered below this to make a plan fit: answers would be cut to nothing."""
LONGEST_LENGTH = 131072
"""The contract's limit (contracts/options.py)."""
SPEED_CUT = 0.05
"""Share of rows, and of tokens, that the objective `speed` may cut off."""


@dataclass(frozen=True, slots=True)
class Choices:
    """The values that are open, each list in order of preference; one value where the user has decided."""

    objective: Objective
    batch: int
    accumulation: int
    lengths: list[int]
    """Lengths to prefer, the first one best; the search shortens the last one further only if `may_shorten`."""
    checkpointing: list[bool]
    formats: list[tuple[Dtype, Quantization]]
    may_shorten: bool
    may_grow: bool
    """Whether the micro-batch may exceed `batch`."""

    @property
    def product(self) -> int:
        """Rows per optimizer step."""
        return self.batch * self.accumulation

    def vary(self, length: int, formats: list[tuple[Dtype, Quantization]]) -> list[Knobs]:
        """Return every variant with this max_length, the least changed first."""
        splits = list_splits(self.product, self.batch)
        if self.may_grow and self.objective == "speed":
            splits += tuple(micro for micro in list_splits(self.product, MOST_BATCH) if micro > self.batch)
        return [
            Knobs(micro, self.product // micro, length, recompute, dtype, quantization)
            for (dtype, quantization), recompute, micro in combine(formats, self.checkpointing, splits)
        ]


def search(estimator: Estimator, choices: Choices) -> Candidate:
    """Return the best variant. If nothing fits, the one that needs least."""
    available = estimator.request.available_bytes
    if choices.objective == "speed" and (fitting := _list_quick(estimator, choices)):
        return _quickest(estimator, fitting)
    for length in choices.lengths:
        if found := _search_length(estimator, choices, length, available, by_bound=True):
            return found
    wanted = choices.lengths[-1]
    if found := _search_length(estimator, choices, wanted, available, by_bound=False):
        return found
    shorter = list_shorter(estimator, wanted) if choices.may_shorten else []
    for by_bound in (True, False):
        for length in shorter:
            if found := _search_length(estimator, choices, length, available, by_bound=by_bound):
                return found
    return min((estimator.weigh(knobs) for knobs in choices.vary(wanted, choices.formats)), key=lambda found: found.upper)


def _list_quick(estimator: Estimator, choices: Choices) -> list[Candidate]:
    """Return what fits of every length, format and recomputation: the largest micro-batch as asked, and the largest of all."""
    found: dict[Knobs, Candidate] = {}
    for length, chosen, recompute in combine(choices.lengths, choices.formats, choices.checkpointing):
        variants = [knobs for knobs in choices.vary(length, [chosen]) if knobs.checkpointing == recompute]
        weighed = [estimator.weigh(knobs) for knobs in variants]
        fitting = [candidate for candidate in weighed if candidate.upper <= estimator.request.available_bytes]
        if fitting:
            largest = max(fitting, key=lambda candidate: candidate.knobs.micro_batch)
            found |= {fitting[0].knobs: fitting[0], largest.knobs: largest}
    return list(found.values())


def _search_length(
    estimator: Estimator, choices: Choices, length: int, available: int, *, by_bound: bool
) -> Candidate | None:  # fmt: skip
    """Return the best variant of this max_length in the first format that fits; by the prediction: the one that needs least."""
    for chosen in choices.formats:
        weighed = [estimator.weigh(knobs) for knobs in choices.vary(length, [chosen])]
        fitting = [found for found in weighed if (found.upper if by_bound else found.peak) <= available]
        if fitting:
            return _prefer(estimator, fitting) if by_bound else min(fitting, key=lambda found: found.upper)
    return None


def _prefer(estimator: Estimator, fitting: list[Candidate]) -> Candidate:
    """Return the largest micro-batch that fits; among the two with and without recomputation the clearly quicker one.

    A micro-batch is never split for speed: the engine itself cuts where that helps.
    """
    first = fitting[0]
    other = next((found for found in fitting if found.knobs.checkpointing != first.knobs.checkpointing), first)
    return _quickest(estimator, [first, other])


def _quickest(estimator: Estimator, found: list[Candidate]) -> Candidate:
    """Return the first one unless another is clearly quicker."""
    first = found[0]
    best = min(found, key=lambda candidate: estimator.time(candidate).p50)
    return best if estimator.time(best).p50 < CLEARLY * estimator.time(first).p50 else first


def list_shorter(estimator: Estimator, length: int) -> list[int]:
    """Return shorter values of max_length, the longest first: eighths, and the quantiles of the rows.

    Rows that the data set does not have cost nothing: shortening starts below the longest one.
    """
    lengths = estimator.request.lengths
    needed = min(length, lengths.longest or length)
    shorter = {needed * eighths // 8 // 8 * 8 for eighths in range(7, 0, -1)}
    shorter |= {value for value in lengths.quantiles if lengths.measured}
    return sorted((value for value in shorter if SHORTEST_LENGTH <= value < needed), reverse=True)


def list_wanted(estimator: Estimator, length: int, objective: Objective) -> list[int]:
    """Return the values of max_length that `objective` would like, the best first, `length` among them."""
    lengths, context = estimator.request.lengths, estimator.shape.context
    if objective == "quality" and lengths.longest > length:
        most = min(lengths.longest, context, LONGEST_LENGTH)
        longer = {most, *(value for value in lengths.quantiles if length < value < most)} - {length}
        return [*sorted((value for value in longer if value > length), reverse=True), length]
    if objective == "speed" and lengths.measured and estimator.long_rows == "truncate":
        needed = min(length, lengths.longest or length)
        for value in lengths.quantiles:
            bearable = lengths.share_longer(value) <= SPEED_CUT and lengths.share_tokens_beyond(value, "truncate") <= SPEED_CUT
            if bearable and SHORTEST_LENGTH <= value < needed:
                return [length, value]
    return [length]
