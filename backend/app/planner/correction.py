"""What finished jobs of this machine say about predicted seconds: a factor, and how far single jobs lie around it. Pure.

Each finished job gives log(measured / planned seconds), the plan's own correction taken out again. Jobs count as alike when
device and method of timing are the same; those of another precision count less. A job counts half as much as one that came
5 jobs later, and less when it was over in seconds: that tells about starting, not about pace. Their weighted median, drawn
towards 1 as if PRIOR_JOBS jobs had met their plan, is the factor. P90 follows from the deviations around it, drawn towards
the spread that is assumed without jobs.

A job that was planned with an earlier calibration is compared with what the present one would have planned: both know how
their measured steps compare with the table of devices (`Calibration.step_factor`).
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from app.contracts.hardware import DeviceKind
from app.contracts.options import Dtype
from app.contracts.plan import Notice, TimeMethod
from app.contracts.record import JobRecord

MOST_JOBS = 40
"""Of one kind, the newest ones."""
HALF_LIFE_JOBS = 5.0
SHORT_SECONDS = 20.0
"""A job of this length counts half."""
OTHER_DTYPE_WEIGHT = 0.3
PRIOR_JOBS = 1.5
"""Jobs' worth of the plan without correction: after one long job the factor goes 40 % of the way, after five 70 %."""
PRIOR_SPREAD_JOBS = 4.0
"""The same for the spread."""
P90_SIGMAS = 1.2816
"""Standard deviations between the median and the 90th percentile of a normal distribution."""
FARTHEST = math.log(4.0)
"""A job that took more than four times as long or short as planned (a machine that slept) counts as one that did just that."""
NARROWEST = 1.1
"""P90 over P50, however well past jobs met their plans."""


@dataclass(frozen=True, slots=True)
class Correction:
    """How predicted seconds change because of finished jobs."""

    factor: float = 1.0
    jobs: int = 0
    """How many it rests on."""
    sigma: float | None = None
    """Standard deviation of log(measured / corrected) of these jobs, not yet drawn towards what is assumed."""
    weight: float = 0.0
    """Jobs' worth of evidence behind `sigma`."""

    def spread(self, assumed: float) -> float:
        """Return P90 over P50, given what it would be without any finished job."""
        if self.sigma is None:
            return assumed
        prior = math.log(max(assumed, 1.0)) / P90_SIGMAS
        variance = PRIOR_SPREAD_JOBS * prior**2 + self.weight * self.sigma**2
        drawn = math.sqrt(variance / (PRIOR_SPREAD_JOBS + self.weight))
        return max(min(assumed, NARROWEST), math.exp(P90_SIGMAS * drawn))


NO_CORRECTION = Correction()


@dataclass(frozen=True, slots=True)
class FinishedTime:
    """One finished job."""

    device: DeviceKind
    device_name: str
    """Empty for jobs of versions that did not note it."""
    dtype: Dtype
    method: TimeMethod
    planned_seconds: float
    """P50 without any correction."""
    measured_seconds: float
    step_factor: float | None
    """Of the calibration that it was planned with."""


def list_times(records: Iterable[JobRecord]) -> tuple[FinishedTime, ...]:
    """Return the jobs whose time was planned and measured, oldest first."""
    return tuple(
        FinishedTime(
            device=record.device_kind,
            device_name=record.device_name,
            dtype=record.dtype,
            method=record.time_method,
            planned_seconds=record.planned_seconds / record.time_factor,
            measured_seconds=record.measured_seconds,
            step_factor=record.step_factor,
        )
        for record in records
        if record.measured_seconds and record.planned_seconds > 0
    )


def find_correction(
    times: Sequence[FinishedTime],
    *,
    device: DeviceKind,
    device_name: str,
    dtype: Dtype,
    method: TimeMethod,
    step_factor: float | None = None,
) -> Correction:
    """Return the correction for a plan on this device in this precision; NO_CORRECTION where no job was like it."""
    alike = [
        time
        for time in times
        if time.device == device and time.method == method and time.device_name in {"", device_name}
    ][-MOST_JOBS:]  # fmt: skip
    if not alike:
        return NO_CORRECTION
    weights, logs = [], []
    for age, time in enumerate(reversed(alike)):
        planned = time.planned_seconds
        if step_factor and time.step_factor:
            planned *= step_factor / time.step_factor
        logs.append(max(-FARTHEST, min(FARTHEST, math.log(time.measured_seconds / planned))))
        weight = 0.5 ** (age / HALF_LIFE_JOBS) * time.measured_seconds / (time.measured_seconds + SHORT_SECONDS)
        weights.append(weight if time.dtype == dtype else OTHER_DTYPE_WEIGHT * weight)
    total = sum(weights)
    center = find_weighted_median(logs, weights) * total / (total + PRIOR_JOBS)
    variance = sum(weight * (value - center) ** 2 for weight, value in zip(weights, logs, strict=True)) / total
    return Correction(factor=math.exp(center), jobs=len(alike), sigma=math.sqrt(variance), weight=total)


def find_weighted_median(values: Sequence[float], weights: Sequence[float]) -> float:
    """Return the value in the middle of the weights, between two neighbours where it falls between them.

    Raise ValueError for no values. Each value stands at the middle of its weight; between two, straight lines lead.
    """
    pairs = sorted(zip(values, weights, strict=True))
    if not pairs:
        raise ValueError("no values")
    half = sum(weights) / 2
    reached = 0.0
    before: tuple[float, float] | None = None
    for value, weight in pairs:
        place = reached + weight / 2
        if place >= half:
            if before is None or place == before[0]:
                return value
            return before[1] + (value - before[1]) * (half - before[0]) / (place - before[0])
        before = (place, value)
        reached += weight
    return pairs[-1][0]


def describe_correction(correction: Correction) -> list[Notice]:
    """Return the sentence that says by how much finished jobs changed the seconds; none without such jobs."""
    if not correction.jobs:
        return []
    percent = round(100 * (correction.factor - 1))
    key = "time_corrected.slower" if percent > 0 else "time_corrected.quicker" if percent < 0 else "time_corrected.confirmed"
    return [Notice(key=key, params={"jobs": correction.jobs, "percent": abs(percent)})]
