"""Make a plan: what will happen if this job starts, and the few changes that let it fit. Never a refusal.

Order of the values: the user's, the preset's, the model's, the default. The planner itself only
1. picks what was left open: precision, 4 bits or not, recomputation (planner/search.py says by which rule);
2. splits batch_size x gradient_accumulation_steps, keeping the product;
3. lowers max_length: to the model's context always, to the longest row or to what fits unless the user set it;
   the objective `quality` raises it to the longest row.
Every change carries its reason as a message key, every plan its alternatives with their price (planner/alternatives.py).
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from app.contracts.options import Dtype, Quantization
from app.contracts.plan import MemoryParts, ModelShape, Notice, Plan, Resolved, TimeBasis, Verdict
from app.core.units import GIB
from app.planner.alternatives import Explorer, judge
from app.planner.candidates import OPTIONS, Candidate, Estimator, Knobs, is_users, name_options
from app.planner.correction import describe_correction
from app.planner.request import PlanRequest
from app.planner.search import Choices, list_wanted, search
from app.planner.time import RunTime

__all__ = ["PlanRequest", "make_plan"]


@dataclass(slots=True)
class _Draft:
    values: dict[str, Resolved]
    reasons: list[Notice] = field(default_factory=list)

    def get(self, name: str) -> Any:
        return self.values[name].value

    def choose(self, name: str, value: Any, reason: str, **params: Any) -> None:
        """Set a value in the planner's name, the reason beside it only."""
        self.values[name] = Resolved(value=value, origin="planner", reason=reason, params=params)

    def change(self, name: str, value: Any, reason: str, **params: Any) -> None:
        """Set a value in the planner's name and say so."""
        self.choose(name, value, reason, **params)
        self.reasons.append(Notice(key=reason, params=params))


def make_plan(request: PlanRequest, *, explore: bool = True) -> Plan:
    """Return the plan. Pure: the same request gives the same plan.

    `explore=False` leaves out alternatives and automatic values: several times quicker.
    """
    if request.shape is None:
        return _plan_roughly(request, _Draft(dict(request.values)))
    estimator = Estimator(request, request.shape)
    draft, choices, best = _decide(request, estimator)
    plan = _finish(request, draft, estimator, best)
    if not explore:
        return plan

    def decide_again(values: dict[str, Resolved]) -> Knobs:
        # Only knobs and the objective ever change: what was weighed and timed stays valid.
        return _decide(replace(request, values=values), estimator)[2].knobs

    alternatives = Explorer(estimator, choices, best, decide_again).list_alternatives()
    resolved = _find_automatic(request.values, plan.resolved, decide_again)
    return plan.model_copy(update={"resolved": resolved, "alternatives": alternatives})


def _decide(request: PlanRequest, estimator: Estimator) -> tuple[_Draft, Choices, Candidate]:
    """Return every value with its reason, what was open, and the variant that was chosen."""
    draft = _Draft(dict(request.values))
    _limit_length(request, estimator.shape, draft)
    choices = _open_choices(request, draft, estimator)
    best = search(estimator, choices)
    _record(request, draft, choices, best)
    return draft, choices, best


def _find_automatic(
    asked: dict[str, Resolved], planned: dict[str, Resolved], decide_again: Callable[[dict[str, Resolved]], Knobs]
) -> dict[str, Resolved]:
    """Return the plan's values, each with what it would be if the user had not set it and all others stayed."""
    found: dict[str, Resolved] = {}
    for name, resolved in planned.items():
        automatic = resolved.value
        if is_users(asked[name]):
            automatic = asked[name].automatic
            if name in OPTIONS.values():
                knobs = decide_again(asked | {name: Resolved(value=automatic, origin="default")})
                automatic = name_options(knobs)[name]
        found[name] = resolved.model_copy(update={"automatic": automatic})
    return found


def _limit_length(request: PlanRequest, shape: ModelShape, draft: _Draft) -> None:
    """Lower max_length to the model's context, and to the longest row when the number was not the user's."""
    before = draft.get("max_length")
    if before > shape.context:
        draft.change("max_length", shape.context, "max_length_lowered.context", before=before, after=shape.context)
    current, longest = draft.get("max_length"), request.lengths.longest
    counted = request.lengths.measured and request.lengths.complete and longest > 0
    if counted and not is_users(request.values["max_length"]) and (after := max(8, longest)) < current:
        draft.change("max_length", after, "max_length_lowered.rows", before=current, after=after)


def _open_choices(request: PlanRequest, draft: _Draft, estimator: Estimator) -> Choices:
    objective = draft.get("objective")
    users_length = is_users(request.values["max_length"])
    length = draft.get("max_length")
    checkpointing = draft.get("gradient_checkpointing")
    return Choices(
        objective=objective,
        batch=draft.get("batch_size"),
        accumulation=draft.get("gradient_accumulation_steps"),
        lengths=[length] if users_length else list_wanted(estimator, length, objective),
        checkpointing=[False, True] if checkpointing is None else [checkpointing],
        formats=_list_formats(request, draft),
        may_shorten=not users_length,
        may_grow=not is_users(request.values["batch_size"]) and not is_users(request.values["gradient_accumulation_steps"]),
    )


def _list_formats(request: PlanRequest, draft: _Draft) -> list[tuple[Dtype, Quantization]]:
    """Return (precision, 4 bits or not) in order of preference: what is native, 4 bits where there is a card for it."""
    device = request.device
    dtypes: list[Dtype]
    if (chosen := draft.get("dtype")) is not None:
        dtypes = [chosen]
    elif device.bf16:
        dtypes = ["bfloat16"]
    elif device.kind == "cuda" and (device.compute_capability or (0, 0)) >= (7, 0):
        dtypes = ["float16"]
    else:
        # Slower than 32 bits on such a device, and half the memory.
        dtypes = ["float32", "float16" if device.kind == "cuda" else "bfloat16"]
    quantizations: list[Quantization]
    asked = draft.values["quantization"]
    if is_users(asked):
        quantizations = [asked.value]
    elif device.kind == "cuda" and request.nf4_usable:
        quantizations = ["none", "nf4"]
    else:
        quantizations = ["none"]
    return [(dtype, quantization) for dtype in dtypes for quantization in quantizations]


def _record(request: PlanRequest, draft: _Draft, choices: Choices, best: Candidate) -> None:
    """Write down what was chosen, with the reason."""
    knobs = best.knobs
    if draft.get("dtype") is None:
        native = knobs.dtype == choices.formats[0][0]
        draft.choose("dtype", knobs.dtype, f"dtype_chosen.{knobs.dtype}" if native else "dtype_chosen.smaller", dtype=knobs.dtype)
    _record_quantization(request, draft, knobs.quantization)
    _record_length(draft, choices, best)
    batch, accumulation = choices.batch, choices.accumulation
    if knobs.micro_batch != batch:
        reason = "batch_split" if knobs.micro_batch < batch else "batch_grown"
        params = {
            "batch": batch,
            "accumulation": accumulation,
            "micro": knobs.micro_batch,
            "micro_accumulation": knobs.accumulation,
        }
        draft.change("batch_size", knobs.micro_batch, reason, **params)
        draft.choose("gradient_accumulation_steps", knobs.accumulation, reason, **params)
    if draft.get("gradient_checkpointing") is None:
        reason = f"gradient_checkpointing.{'on' if knobs.checkpointing else 'off'}"
        draft.choose("gradient_checkpointing", knobs.checkpointing, reason)
        if knobs.checkpointing:
            draft.reasons.append(Notice(key=reason))


def _record_quantization(request: PlanRequest, draft: _Draft, chosen: Quantization) -> None:
    asked = draft.get("quantization")
    if chosen == asked:
        return
    if chosen == "nf4":
        draft.change("quantization", chosen, "quantization_on.memory")
    elif request.device.kind != "cuda":
        draft.change("quantization", chosen, "quantization_off.processor")
    elif not request.nf4_usable:
        draft.change("quantization", chosen, "quantization_off.missing")
    else:
        draft.change("quantization", chosen, "quantization_off.fits")


def _record_length(draft: _Draft, choices: Choices, best: Candidate) -> None:
    before, after = draft.get("max_length"), best.knobs.max_length
    if after > before:
        draft.change("max_length", after, "max_length_raised.rows", before=before, after=after)
    elif after < before:
        reason = "max_length_lowered.speed" if after in choices.lengths else "max_length_lowered.memory"
        draft.change("max_length", after, reason, before=before, after=after)


def _finish(request: PlanRequest, draft: _Draft, estimator: Estimator, best: Candidate) -> Plan:
    length, long_rows = best.knobs.max_length, draft.get("long_rows")
    cut_rows = request.lengths.share_longer(length)
    cut_tokens = request.lengths.share_tokens_beyond(length, long_rows)
    if cut_rows > 0:
        params = {"percent": round(100 * cut_rows), "tokens_percent": round(100 * cut_tokens), "length": length}
        draft.reasons.append(Notice(key=f"rows_too_long.{long_rows}", params=params))
    plan = _assemble(request, draft, best, estimator.time(best), estimator, rows=estimator.count_rows(length))
    return plan.model_copy(update={"cut_rows_share": cut_rows, "cut_tokens_share": cut_tokens})


def _assemble(
    request: PlanRequest, draft: _Draft, best: Candidate, time: RunTime, estimator: Estimator, *, rows: int
) -> Plan:  # fmt: skip
    """Return the plan of `rows` training rows, with everything that is worth saying about it."""
    product = draft.get("batch_size") * draft.get("gradient_accumulation_steps")
    epochs = draft.get("num_epochs")
    if rows == 0:
        draft.reasons.append(Notice(key="rows_missing"))
    elif product > rows:
        draft.reasons.append(Notice(key="effective_batch_larger", params={"effective": product, "rows": rows}))
    if not request.lengths.measured and rows:
        draft.reasons.append(Notice(key="lengths_estimated"))
    method = estimator.time_method
    correction = estimator.find_correction(best.knobs.dtype)
    draft.reasons += describe_correction(correction)
    if request.device.kind == "cuda" and method == "guessed":
        draft.reasons.append(Notice(key="card_unknown", params={"device": request.device.name}))
    verdict = judge(best.peak, best.upper, request.available_bytes)
    return Plan(
        model_id=request.model_id,
        device_id=request.device.id,
        verdict=verdict,
        peak_bytes=best.peak,
        peak_bytes_upper=best.upper,
        available_bytes=request.available_bytes,
        parts=best.parts,
        seconds_p50=time.p50,
        seconds_p90=time.p90,
        steps=-(-rows // product) * epochs,
        train_rows=request.train_rows,
        heldout_rows=request.heldout_rows,
        resolved=draft.values,
        reasons=draft.reasons,
        warnings=[_warn(request, best, verdict)] if verdict != "fits" else [],
        objective=draft.get("objective"),
        memory_method=best.method,
        time_method=method,
        time_basis=TimeBasis(
            device_name=request.device.name,
            step_factor=request.calibration.step_factor if request.calibration else None,
            factor=correction.factor,
            jobs=correction.jobs,
        ),
        bound=best.bound,
    )


def _warn(request: PlanRequest, best: Candidate, verdict: Verdict) -> Notice:
    params = {
        "model": request.model_name,
        "device": request.device.name,
        "needed_gb": _gigabytes(best.peak),
        "upper_gb": _gigabytes(best.upper),
        "available_gb": _gigabytes(request.available_bytes),
    }
    return Notice(key=f"{verdict}.{request.device.kind}", params=params)


def _gigabytes(count: int) -> float:
    return round(count / GIB, 1)


def _plan_roughly(request: PlanRequest, draft: _Draft) -> Plan:
    """Plan a model of unknown shape from its stated memory: size and speed of a typical transformer that needs as much."""
    draft.reasons.append(Notice(key="shape_unknown", params={"model": request.model_name, "gb": request.vram_required_gb}))
    # Nothing can be weighed, so nothing is searched: the first of each choice, 4 bits only if the entry says so.
    formats = _list_formats(request, draft)
    asked = draft.get("quantization")
    dtype, quantization = next((found for found in formats if found[1] == asked), formats[0])
    peak = round(max(0.1, request.vram_required_gb) * GIB)
    bytes_per_weight = 0.6 if quantization == "nf4" else 4.0 if dtype == "float32" else 2.0
    shape = _typical_shape(0.85 * peak / bytes_per_weight)
    estimator = Estimator(request, shape, method="rough")
    choices = replace(_open_choices(request, draft, estimator), objective="balanced", formats=[(dtype, quantization)])
    typical = estimator.weigh(choices.vary(draft.get("max_length"), choices.formats)[0])
    _record(request, draft, choices, typical)
    fixed = round(0.85 * peak)
    parts = MemoryParts(
        weights=fixed, adapter=0, gradients=0, optimizer=0, activations=peak - fixed, logits=0, workspace=0, context=0
    )
    upper = round(peak * typical.bound.factor) + typical.bound.extra_bytes
    seconds = estimator.time(typical).p50
    best = replace(typical, parts=parts, upper=upper)
    plan = _assemble(request, draft, best, RunTime(seconds, seconds * 2.0), estimator, rows=request.train_rows)
    automatic = {name: request.values[name].automatic for name in draft.values if is_users(request.values[name])}
    resolved = {
        name: value.model_copy(update={"automatic": automatic.get(name, value.value)}) for name, value in plan.resolved.items()
    }
    return plan.model_copy(update={"resolved": resolved})


def _typical_shape(params: float) -> ModelShape:
    """Return a Llama-like shape with about `params` parameters: 12 x hidden**2 per block, layers = hidden / 128."""
    hidden = max(256, round((params * 128 / 12) ** (1 / 3) / 128) * 128)
    heads = max(1, hidden // 128)
    return ModelShape(
        family="other", params=round(params), layers=max(2, hidden // 128), hidden=hidden, intermediate=8 * hidden // 3,
        heads=heads, kv_heads=heads, head_dim=128, vocab=32000, context=1 << 20, tied=False,
    )  # fmt: skip
