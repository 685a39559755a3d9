"""Whether a difference is more than chance: the paired bootstrap (Efron and Tibshirani 1993, chapter 13).

Rows are drawn with replacement, each with both of its numbers, and the difference is computed anew; the middle 95 % of the
differences are the interval.
"""

from collections.abc import Sequence

import numpy as np

from app.contracts.comparison import Measured, MeasureName

DRAWS = 2000
SEED = 20261123
_TAIL_PERCENT = 2.5


def compare_pairs(
    name: MeasureName,
    base: Sequence[float],
    tuned: Sequence[float],
    *,
    prompted: Sequence[float] | None = None,
    weights: Sequence[float] | None = None,
) -> Measured:
    """Return the weighted means of both (and of `prompted`) with the interval of tuned - base. At least one row.

    `weights` are the tokens of each row where a mean is one over tokens; None counts each row once.
    """
    counts = np.ones(len(base)) if weights is None else np.asarray(weights, float)
    before, after = np.asarray(base, float), np.asarray(tuned, float)
    drawn = np.random.default_rng(SEED).integers(0, len(before), (DRAWS, len(before)))
    differences = ((after - before) * counts)[drawn].sum(1) / counts[drawn].sum(1)
    low, high = np.percentile(differences, (_TAIL_PERCENT, 100 - _TAIL_PERCENT))
    return Measured(
        name=name,
        rows=len(before),
        base=float(np.average(before, weights=counts)),
        tuned=float(np.average(after, weights=counts)),
        prompted=None if prompted is None else float(np.average(np.asarray(prompted, float), weights=counts)),
        low=float(low),
        high=float(high),
    )
