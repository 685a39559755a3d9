"""From single times to figures, and whether the machine was calm meanwhile. Knows no torch.

A shared machine is not equally fast all the time: a neighbour on the same core or host, another program, the clock. The
reference, one matrix product that is timed between all pieces, shows how fast it was at each moment. Single times are
brought to the machine's usual speed during the measurement by what the reference says, weakened by how strongly steps
follow it; then the median over the rounds counts. Measured on two virtual cores with nothing else running (17 rounds):
steps follow the reference with an exponent of 0.4 to 0.5, and a calibration of three rounds then differs from one of all
17 rounds by 5.7 % instead of 6.9 % in its level and by 6.2 % instead of 7.1 % from step to step (standard deviations).
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

RESTLESS = 1.35
"""Unrest from which on a machine counts as restless: 1.11 to 1.21 were measured on two virtual cores with nothing else
running, 1.6 with another program running three seconds of six on one of them."""
BUSY_OTHERS = 0.15
"""The same for the share of the processor that others used; 0.25 in that second case."""


@dataclass(frozen=True, slots=True)
class Timing:
    """One time of one piece."""

    series: int
    """Number of its series."""
    seconds: float
    """Of doing the piece once."""
    reference: float
    """Seconds of the reference around it: mean of once before and once after."""


@dataclass(frozen=True, slots=True)
class Series:
    """How the machine was during some rounds in a row."""

    number: int
    rounds: int
    references: tuple[float, ...]
    """Seconds of the reference, in the order of measuring."""
    others_share: float
    """Of the processor, 0..1."""

    @property
    def unrest(self) -> float:
        """The slowest tenth of the references over their median; 1.0 on a silent machine."""
        return find_quantile(self.references, 0.9) / statistics.median(self.references)

    @property
    def restless(self) -> bool:
        """Whether the times are doubtful."""
        return self.unrest > RESTLESS or self.others_share > BUSY_OTHERS


def choose_series(found: Sequence[Series]) -> list[Series]:
    """Return the series that count: the first calm one, else all."""
    calm = [series for series in found if not series.restless]
    return calm[:1] or list(found)


def find_quantile(values: Sequence[float], share: float) -> float:
    """Return the value below which `share` of `values` lie, interpolated. Raise ValueError for no values."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("no values")
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def measure_sensitivity(pieces: Sequence[Sequence[Timing]]) -> float:
    """Return the exponent with which the times of these pieces follow the reference: 0 not at all, 1 fully.

    Slope of the logarithms around each piece's own mean, all pieces together.
    """
    across = covered = 0.0
    for timings in pieces:
        xs = [math.log(timing.reference) for timing in timings]
        ys = [math.log(timing.seconds) for timing in timings]
        if len(xs) < 2:
            continue
        x_mean, y_mean = statistics.fmean(xs), statistics.fmean(ys)
        across += sum((x - x_mean) * (y - y_mean) for x, y in zip(xs, ys, strict=True))
        covered += sum((x - x_mean) ** 2 for x in xs)
    return max(0.0, min(1.0, across / covered)) if covered > 1e-12 else 0.0


def estimate_seconds(timings: Sequence[Timing], usual_reference: float, sensitivity: float) -> float:
    """Return the seconds of a piece at the machine's usual speed. Raise ValueError for no times."""
    if not timings:
        raise ValueError("no times")
    usual = [timing.seconds * math.pow(usual_reference / timing.reference, sensitivity) for timing in timings]
    return statistics.median(usual)


def measure_noise(pieces: Sequence[Sequence[float]]) -> float:
    """Return the 90th percentile of single times over the median of their piece; 1.0 on a silent machine."""
    ratios = [value / statistics.median(times) for times in pieces if times for value in times]
    return max(1.0, find_quantile(ratios, 0.9))
