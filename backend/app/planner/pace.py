"""How long a device takes per operation, byte and kernel; and finding that out from measured steps.

Time is a sum of seven products, work times pace. The paces are fitted in logarithms (a step that takes 0.1 s counts as
much as one of 10 s), stay positive, and are held near a physical guess by a penalty, so that what the measurements do not
tell apart keeps its guess. No numpy: this also runs in the server.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from operator import attrgetter

from app.planner.traced import Work

ROUNDS = 60
MOST_CHANGE = 0.5
"""Of a pace's logarithm in one round: keeps the iteration stable."""
FARTHEST = 3.0
"""A fitted pace stays within a factor e**3 of its guess."""
MISSED = 0.35
"""A logarithm of measured over predicted beyond this counts linearly, not squared: one disturbed step must not rule the fit."""

_read_values = attrgetter(*(field.name for field in fields(Work)))


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds per unit of each kind of work, in the order of `Work`."""

    flops_half: float
    flops_full: float
    flops_attention: float
    """On top of the two above: attention's products are small or badly shaped."""
    bytes_elementwise: float
    bytes_gemm: float
    bytes_unpacked: float
    launches: float

    @property
    def values(self) -> tuple[float, ...]:
        """The paces in the order of `Work`."""
        return _read_values(self)

    def seconds(self, work: Work) -> float:
        """Return the time of `work`."""
        return math.fsum(pace * amount for pace, amount in zip(self.values, _read_values(work), strict=True))


@dataclass(frozen=True, slots=True)
class Sample:
    """One measured pass."""

    work: Work
    seconds: float
    weight: float = 1.0


def fit_pace(samples: Sequence[Sample], guess: Pace, *, trust: float) -> Pace:
    """Return the paces that explain `samples` best: least sum of squared logarithms of measured over predicted.

    `trust` is how many samples' worth the guess counts, per pace. A pace of 0 in the guess stays 0; one whose work occurs
    nowhere keeps its guess.
    """
    guesses = guess.values
    amounts = [_read_values(sample.work) for sample in samples]
    free = [index for index, value in enumerate(guesses) if value > 0 and any(row[index] > 0 for row in amounts)]
    start = [math.log(guesses[index]) for index in free]
    logs = list(start)
    for _ in range(ROUNDS):
        paces = [math.exp(value) for value in logs]
        normal = [[trust + 1e-9 if i == j else 0.0 for j in range(len(free))] for i in range(len(free))]
        slope = [trust * (value - first) for value, first in zip(logs, start, strict=True)]
        for row, sample in zip(amounts, samples, strict=True):
            parts = [pace * row[index] for pace, index in zip(paces, free, strict=True)]
            total = sum(parts)
            if total <= 0:
                continue
            shares = [part / total for part in parts]
            miss = math.log(total / sample.seconds)
            weight = sample.weight * min(1.0, MISSED / max(abs(miss), 1e-12))
            for i, share in enumerate(shares):
                slope[i] += weight * share * miss
                for j, other in enumerate(shares):
                    normal[i][j] += weight * share * other
        change = solve(normal, slope)
        largest = 0.0
        for i, step in enumerate(change):
            limited = max(-MOST_CHANGE, min(MOST_CHANGE, step))
            logs[i] = max(start[i] - FARTHEST, min(start[i] + FARTHEST, logs[i] - limited))
            largest = max(largest, abs(limited))
        if largest < 1e-7:
            break
    fitted = list(guesses)
    for index, value in zip(free, logs, strict=True):
        fitted[index] = math.exp(value)
    return Pace(*fitted)


def solve(matrix: list[list[float]], right: list[float]) -> list[float]:
    """Solve a small system of linear equations with a positive definite matrix (Gauss, with pivots)."""
    size = len(right)
    rows = [[*row, value] for row, value in zip(matrix, right, strict=True)]
    for column in range(size):
        pivot = max(range(column, size), key=lambda row: abs(rows[row][column]))
        rows[column], rows[pivot] = rows[pivot], rows[column]
        for row in range(column + 1, size):
            factor = rows[row][column] / rows[column][column]
            for k in range(column, size + 1):
                rows[row][k] -= factor * rows[column][k]
    found = [0.0] * size
    for row in reversed(range(size)):
        known = sum(rows[row][k] * found[k] for k in range(row + 1, size))
        found[row] = (rows[row][size] - known) / rows[row][row]
    return found
