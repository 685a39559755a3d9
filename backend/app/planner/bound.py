"""How far a measured peak may lie above the predicted one, from runs that were predicted and measured.

Split conformal prediction (Vovk et al. 2005; Angelopoulos and Bates, arXiv 2107.07511): of n past ratios measured /
predicted the ceil((n + 1) * 0.95)-th smallest bounds the next one with at least 95 % confidence, whatever their
distribution, if the next run is like the past ones. Runs count as alike when device class, 4 bits or not and the kind of
prediction are the same. With fewer than 19 no ratio is high enough for 95 %: then the largest plus 5 % is used, and the
confidence that is stated is the one that n runs give, n / (n + 1).
"""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Literal, NamedTuple

from app.contracts.hardware import DeviceKind
from app.contracts.options import Quantization
from app.contracts.plan import Bound, MemoryMethod
from app.contracts.record import JobRecord
from app.core.units import MIB

CONFIDENCE = 0.95
FEWEST = 19
"""The least n with ceil((n + 1) * 0.95) <= n."""
FEW_MARGIN = 1.05
"""On top of the largest ratio when there are fewer."""
RULE = Bound(factor=1.10, extra_bytes=100 * MIB)
"""Where nothing like it was ever measured: 10 % and 100 MiB, and no confidence is stated."""
ROUGH = Bound(factor=1.30)
"""For a model of unknown shape, planned from its stated memory."""


Prediction = Literal["closed_form", "traced", "replayed"]
"""Of the peak of live tensors by formula or by trace; or, on a card, of what the allocator takes for them."""


class Group(NamedTuple):
    """Runs whose errors are alike."""

    device: DeviceKind
    quantization: Quantization
    prediction: Prediction


@dataclass(frozen=True, slots=True)
class Residuals:
    """log(measured / predicted) of past peaks by group: what came with the program, and this machine's own.

    Measured is what must be there: resident memory on a processor, what the allocator has taken on a card. So on a card
    the ratio to a prediction of live tensors counts the allocator's holes in.
    """

    shipped: dict[Group, tuple[float, ...]] = field(default_factory=dict)
    own: dict[Group, tuple[float, ...]] = field(default_factory=dict)

    def find_bound(
        self, device: DeviceKind, quantization: Quantization, method: MemoryMethod, *, replayed: bool = False
    ) -> Bound:  # fmt: skip
        """Return the bound for a prediction of this kind. Enough runs of this machine outweigh all others."""
        if method == "rough":
            return ROUGH
        group = Group(device, quantization, "replayed" if replayed else method)
        own, shipped = self.own.get(group, ()), self.shipped.get(group, ())
        bound = calculate_bound(own if len(own) >= FEWEST else (*shipped, *own), own_samples=len(own))
        if bound.samples == 0 and method == "closed_form":
            # The formula follows the trace: never a tighter bound than the trace has, and no confidence of its own.
            traced = self.find_bound(device, quantization, "traced")
            return bound.model_copy(update={"factor": max(bound.factor, traced.factor)})
        return bound


def calculate_bound(residuals: tuple[float, ...], own_samples: int = 0) -> Bound:
    """Return the bound that these log ratios support; below the prediction it never goes."""
    count = len(residuals)
    if count == 0:
        return RULE
    if count >= FEWEST:
        rank = math.ceil((count + 1) * CONFIDENCE)
        factor, confidence = math.exp(sorted(residuals)[rank - 1]), CONFIDENCE
    else:
        factor, confidence = math.exp(max(residuals)) * FEW_MARGIN, math.floor(100 * count / (count + 1)) / 100
    return Bound(confidence=confidence, samples=count, own_samples=own_samples, factor=max(1.0, factor))


def raise_peak(peak_bytes: int, bound: Bound) -> int:
    """Return the upper bound of a predicted peak, in bytes."""
    return math.ceil(peak_bytes * bound.factor) + bound.extra_bytes


def add_records(residuals: Residuals, records: Iterable[JobRecord]) -> Residuals:
    """Return `residuals` with the finished jobs of this machine as its own."""
    own: dict[Group, list[float]] = {}
    for record in records:
        measured = record.measured_reserved_bytes or record.measured_peak_bytes
        if record.memory_method != "rough" and record.planned_peak_bytes > 0 and measured > 0:
            group = Group(record.device_kind, record.quantization, record.memory_method)
            own.setdefault(group, []).append(math.log(measured / record.planned_peak_bytes))
    return Residuals(residuals.shipped, {group: tuple(values) for group, values in own.items()})


@cache
def read_shipped() -> Residuals:
    """Return the residuals that come with the program; `bench/planner/ship_residuals.py` writes them."""
    text = files("app.planner").joinpath("residuals.json").read_text("utf-8")
    shipped: dict[Group, tuple[float, ...]] = {}
    for group in json.loads(text)["groups"]:
        key = Group(group["device"], group["quantization"], group["prediction"])
        shipped[key] = shipped.get(key, ()) + tuple(group["log_ratios"])
    return Residuals(shipped)
