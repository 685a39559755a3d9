"""Which models to take for this memory, this data and this objective, each with its reason. Pure.

Of the models whose plan fits, one is dominated when another is at least as quick and as good, and better in one of the
two. What remains is recommended, the order follows the objective: `speed` by predicted time, `quality` by the number of
planner/quality.py, `balanced` by quality minus log(time), each scaled to 0..1 over the models that fit. The models that
the specification names for a size of memory are recommended there as well, dominated or not, and marked so.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from app.contracts.hardware import Device
from app.contracts.options import Objective
from app.contracts.plan import Notice, Plan
from app.core.units import GIB
from app.planner.quality import Quality

SPECIFIED: tuple[tuple[float, tuple[str, ...]], ...] = (
    (2, ("distilgpt2", "gpt2")),
    (4, ("gpt2", "gpt2-medium")),
    (6, ("gpt2-medium", "gpt2-large")),
    (8, ("gpt2-large",)),
    (12, ("meta-llama/Llama-2-7b-hf", "mistralai/Mistral-7B-v0.3")),
)
"""The specification's hardware table: from so many GB of a card's memory on, these models."""
NEARLY = 0.97
"""A card sold as 6 GB shows a little less than 6 * 2**30 bytes: the row of the table begins there."""


@dataclass(frozen=True, slots=True)
class Contender:
    """One model with its plan on the device and data in question."""

    model_id: str
    name: str
    plan: Plan
    quality: Quality


@dataclass(frozen=True, slots=True)
class Recommendation:
    """One place in the ranking."""

    contender: Contender
    rank: int
    """From 1."""
    recommended: bool
    dominated_by: str | None
    """Id of a model that is at least as quick and as good."""
    reason: Notice


def imagine_card(gigabytes: float, like: Device | None = None) -> Device:
    """Return a card with so much memory (2**30 bytes each): the machine's own with another size, else a modest modern one."""
    size = round(gigabytes * GIB)
    if like is not None and like.kind == "cuda":
        return like.model_copy(update={"memory_total_bytes": size, "memory_free_bytes": size})
    return Device(
        id="cuda:0", kind="cuda", name=f"{gigabytes:g} GB", memory_total_bytes=size, memory_free_bytes=size, bf16=True,
        compute_capability=(8, 6),
    )  # fmt: skip


def list_specified(device: Device) -> tuple[str, ...]:
    """Return the models that the specification's table names for this card; none for a processor."""
    if device.kind != "cuda":
        return ()
    rows = [models for least, models in SPECIFIED if device.memory_total_bytes >= NEARLY * least * GIB]
    return rows[-1] if rows else ()


def recommend(contenders: Sequence[Contender], objective: Objective, device: Device) -> list[Recommendation]:
    """Return all contenders, the best first; those that do not fit come last, the one that lacks least before the others."""
    specified = list_specified(device)
    fitting = [contender for contender in contenders if contender.plan.verdict == "fits"]
    dominators = {contender.model_id: _find_dominator(contender, fitting) for contender in fitting}
    scores = _score(fitting, objective)

    def place(contender: Contender) -> tuple[int, float]:
        if contender.plan.verdict == "fits":
            front = dominators[contender.model_id] is None
            return (0 if front else 1 if contender.model_id in specified else 2, -scores[contender.model_id])
        return (3 if contender.plan.verdict == "tight" else 4, contender.plan.peak_bytes)

    found: list[Recommendation] = []
    for rank, contender in enumerate(sorted(contenders, key=place), start=1):
        dominator = dominators.get(contender.model_id)
        fits = contender.plan.verdict == "fits"
        found.append(
            Recommendation(
                contender=contender,
                rank=rank,
                recommended=fits and (dominator is None or contender.model_id in specified),
                dominated_by=dominator.model_id if dominator else None,
                reason=_explain(contender, dominator, objective, best=rank == 1, specified=contender.model_id in specified),
            )
        )
    return found


def _find_dominator(contender: Contender, others: Sequence[Contender]) -> Contender | None:
    """Return the best of the models that are at least as quick and as good and not equal in both."""
    mine = (contender.plan.seconds_p50, -contender.quality.score)
    better = []
    for other in others:
        theirs = (other.plan.seconds_p50, -other.quality.score)
        if theirs != mine and theirs[0] <= mine[0] and theirs[1] <= mine[1]:
            better.append(other)
    return max(better, key=lambda other: (other.quality.score, -other.plan.seconds_p50), default=None)


def _score(contenders: Sequence[Contender], objective: Objective) -> dict[str, float]:
    """Return a number per model, larger is better."""
    times = {contender.model_id: math.log(max(contender.plan.seconds_p50, 1e-9)) for contender in contenders}
    qualities = {contender.model_id: contender.quality.score for contender in contenders}
    if objective == "speed":
        return {model_id: -value for model_id, value in times.items()}
    if objective == "quality":
        return qualities
    quality, time = _scale(qualities), _scale(times)
    return {model_id: quality[model_id] - time[model_id] for model_id in qualities}


def _scale(values: dict[str, float]) -> dict[str, float]:
    if not values:
        return {}
    low, high = min(values.values()), max(values.values())
    return {name: (value - low) / (high - low) if high > low else 0.0 for name, value in values.items()}


def _explain(
    contender: Contender, dominator: Contender | None, objective: Objective, *, best: bool, specified: bool
) -> Notice:  # fmt: skip
    plan, score = contender.plan, round(contender.quality.score, 1)
    if plan.verdict != "fits":
        params = {"needed_gb": round(plan.peak_bytes_upper / GIB, 1), "available_gb": round(plan.available_bytes / GIB, 1)}
        return Notice(key=f"recommendation.{plan.verdict}", params=params)
    if dominator is not None:
        key = "recommendation.specified" if specified else "recommendation.dominated"
        others = round(dominator.quality.score, 1)
        return Notice(key=key, params={"other": dominator.name, "quality": score, "other_quality": others})
    return Notice(key=f"recommendation.{objective if best else 'front'}", params={"quality": score})
