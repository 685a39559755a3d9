"""What else would work, and what each knob costs: the same job with one thing changed, planned and priced."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from app.contracts.options import Dtype, Objective
from app.contracts.plan import Alternative, Knob, Notice, Resolved, Verdict
from app.core.units import GIB
from app.planner.candidates import MOST_BATCH, Candidate, Estimator, Knobs, list_splits, name_options
from app.planner.search import LONGEST_LENGTH, SHORTEST_LENGTH, SPEED_CUT, Choices

OBJECTIVES: tuple[Objective, ...] = ("speed", "balanced", "quality")


def judge(peak: int, upper: int, available: int) -> Verdict:
    """Return how the bound and the prediction stand against the memory that is there."""
    if upper <= available:
        return "fits"
    return "tight" if peak <= available else "does_not_fit"


@dataclass(frozen=True, slots=True)
class Explorer:
    """Asks the planner again with one thing changed, as a person would, and prices the answer."""

    estimator: Estimator
    choices: Choices
    best: Candidate
    decide_again: Callable[[dict[str, Resolved]], Knobs]
    """The planner's answer to other values of the same request."""

    def list_alternatives(self) -> list[Alternative]:
        """Return the runner-up, then what turning each knob leads to, then what the other objectives would choose."""
        found = [self._find_runner_up(), *(self._ask(kind, changes) for kind, changes in self._turn_knobs())]
        seen = {self.best.knobs}
        for objective in OBJECTIVES:
            if objective == self.choices.objective:
                continue
            knobs = self._plan_with({"objective": objective})
            if knobs not in seen:
                seen.add(knobs)
                found.append(self._price("objective", {"objective": objective}, knobs, f"alternative.{objective}"))
        return [alternative for alternative in found if alternative is not None]

    def _plan_with(self, changes: dict[str, Any]) -> Knobs:
        """Return what the planner answers when the user also sets `changes`."""
        asked = {name: Resolved(value=value, origin="user") for name, value in changes.items()}
        return self.decide_again(self.estimator.request.values | asked)

    def _ask(self, kind: Knob, changes: dict[str, Any]) -> Alternative | None:
        """Return the priced answer; None when the planner would undo it at once or answers the same."""
        knobs = self._plan_with(changes)
        if knobs == self.best.knobs or not changes.items() <= name_options(knobs).items():
            return None
        return self._price(kind, changes, knobs, _name_reason(kind, knobs))

    def _find_runner_up(self) -> Alternative | None:
        """Return the quickest other variant of this max_length whose bound fits; if none does, nothing."""
        available = self.estimator.request.available_bytes
        variants = self.choices.vary(self.best.knobs.max_length, self.choices.formats)
        others = [self.estimator.weigh(knobs) for knobs in variants if knobs != self.best.knobs]
        fitting = [other for other in others if other.upper <= available]
        if not fitting:
            return None
        second = min(fitting, key=lambda other: self.estimator.time(other).p50).knobs
        changes = self.best.knobs.changes(second)
        if self._plan_with(changes) != second:
            # What stays automatic would follow: pin it too.
            changes = name_options(second)
        return self._price("runner_up", changes, second, "alternative.runner_up")

    def _turn_knobs(self) -> list[tuple[Knob, dict[str, Any]]]:
        """Return each knob turned by one notch, in the directions that exist."""
        now, request = self.best.knobs, self.estimator.request
        product = now.micro_batch * now.accumulation
        splits = list_splits(product, MOST_BATCH)
        larger = [micro for micro in splits if micro > now.micro_batch]
        smaller = [micro for micro in splits if micro < now.micro_batch]
        turned: list[tuple[Knob, dict[str, Any]]] = [
            ("batch_size", {"batch_size": micro, "gradient_accumulation_steps": product // micro})
            for micro in (*larger[-1:], *smaller[:1])
        ]
        turned.append(("gradient_checkpointing", {"gradient_checkpointing": not now.checkpointing}))
        turned += [("max_length", {"max_length": length}) for length in self._other_lengths()]
        device = request.device
        half: Dtype = "bfloat16" if device.bf16 or device.kind == "cpu" else "float16"
        turned.append(("dtype", {"dtype": half if now.dtype == "float32" else "float32"}))
        if now.quantization == "nf4":
            turned.append(("quantization", {"quantization": "none"}))
        elif device.kind == "cuda" and request.nf4_usable:
            turned.append(("quantization", {"quantization": "nf4"}))
        return turned

    def _other_lengths(self) -> list[int]:
        """Return a longer max_length if rows are cut now, and a shorter one: where the longest twentieth of the rows begins."""
        lengths, now, found = self.estimator.request.lengths, self.best.knobs.max_length, []
        longest = min(lengths.longest, self.estimator.shape.context, LONGEST_LENGTH)
        if longest > now:
            found.append(min(longest, 2 * now))
        needed = min(now, lengths.longest or now)
        shorter = [
            value
            for value in lengths.quantiles
            if SHORTEST_LENGTH <= value < needed and lengths.share_longer(value) <= SPEED_CUT
        ]  # fmt: skip
        half = needed // 2 // 8 * 8
        if shorter:
            found.append(shorter[0])
        elif half >= SHORTEST_LENGTH:
            found.append(half)
        return found

    def _price(self, kind: Knob, changes: dict[str, Any], knobs: Knobs, reason: str) -> Alternative:
        """Return the variant with what it costs against the plan."""
        request, other = self.estimator.request, self.estimator.weigh(knobs)
        now, then = self.estimator.time(self.best), self.estimator.time(other)
        params = {
            "batch": knobs.micro_batch,
            "accumulation": knobs.accumulation,
            "length": knobs.max_length,
            "rows_percent": round(100 * request.lengths.share_longer(knobs.max_length)),
            "dtype": knobs.dtype,
            "time_percent": round(100 * (then.p50 / now.p50 - 1)),
            "memory_gb": round((other.peak - self.best.peak) / GIB, 1),
        }
        return Alternative(
            kind=kind,
            changes=changes,
            peak_bytes=other.peak,
            peak_bytes_upper=other.upper,
            seconds_p50=then.p50,
            seconds_p90=then.p90,
            verdict=judge(other.peak, other.upper, request.available_bytes),
            reason=Notice(key=reason, params=params),
        )


def _name_reason(kind: Knob, then: Knobs) -> str:
    if kind == "gradient_checkpointing":
        return f"alternative.checkpointing_{'on' if then.checkpointing else 'off'}"
    if kind == "quantization":
        return f"alternative.quantization_{then.quantization}"
    return f"alternative.{kind}"
