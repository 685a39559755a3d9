"""Make a plan: what will happen if this job starts, and the few changes that let it fit. Never a refusal.

Order of the values: the user's, the preset's, the model's, the default. The planner itself only
1. picks what was left automatic: precision, recomputation, 4 bits or not where the machine cannot do the entry's choice;
2. splits batch_size x gradient_accumulation_steps, keeping the product;
3. lowers max_length: to the model's context always, to the longest row or to what fits unless the user set it.
Every change carries its reason as a message key.
"""

from dataclasses import dataclass, field, replace
from typing import Any

from app.contracts.hardware import Device
from app.contracts.options import Dtype, Quantization
from app.contracts.plan import MemoryParts, ModelShape, Notice, Plan, Resolved, Verdict
from app.core.units import GIB, MIB
from app.planner.gpus import rate_device
from app.planner.memory import CPU_TOKENS_PER_MICRO_BATCH, estimate_memory
from app.planner.run_shape import RowLengths, RunShape
from app.planner.shapes import count_adapter_params
from app.planner.time import RunTime, estimate_seconds

UPPER_SHARE = 1.10
UPPER_BYTES = 100 * MIB
"""Margin of the upper bound over the predicted peak: 10 % and 100 MiB."""
MOST_ACCUMULATION = 4096
"""The contract's limit (contracts/options.py): a plan must be a request that can be repeated."""
MOST_SPLITS = 10
"""Splits of the effective batch that are compared."""
SHORTEST_LENGTH = 64
"""max_length is never lowered below this to make a plan fit: answers would be cut to nothing."""


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """Everything a plan depends on."""

    model_id: str
    model_name: str
    shape: ModelShape | None
    """None when neither the table nor a config.json knows the model."""
    vram_required_gb: float
    device: Device
    available_bytes: int
    values: dict[str, Resolved]
    """Every option of FinetuningOptions; value None = automatic, the planner's to choose."""
    lengths: RowLengths
    train_rows: int
    heldout_rows: int
    nf4_usable: bool = False
    """Whether the library that computes with 4-bit weights is installed."""


@dataclass(slots=True)
class _Draft:
    values: dict[str, Resolved]
    reasons: list[Notice] = field(default_factory=list)

    def get(self, name: str) -> Any:
        return self.values[name].value

    def change(self, name: str, value: Any, reason: str, **params: Any) -> None:
        """Set a value in the planner's name."""
        self.values[name] = Resolved(value=value, origin="planner", reason=reason, params=params)
        self.reasons.append(Notice(key=reason, params=params))


@dataclass(frozen=True, slots=True)
class _Candidate:
    run: RunShape
    accumulation: int
    parts: MemoryParts
    upper: int
    time: RunTime


def make_plan(request: PlanRequest) -> Plan:
    """Return the plan. Pure: the same request gives the same plan."""
    draft = _Draft(dict(request.values))
    if request.shape is None:
        return _plan_roughly(request, draft)
    _choose_quantization(request, draft)
    _choose_dtype(request, draft)
    _limit_length(request, request.shape, draft)
    best = _search(request, request.shape, draft)
    _record(draft, best)
    return _finish(request, draft, best.parts, best.upper, best.time)


def _choose_quantization(request: PlanRequest, draft: _Draft) -> None:
    """Keep the user's choice; drop the entry's 4 bits where the machine cannot compute with them."""
    chosen = draft.values["quantization"]
    if chosen.value == "nf4" and chosen.origin != "user":
        if request.device.kind != "cuda":
            draft.change("quantization", "none", "quantization_off.processor")
        elif not request.nf4_usable:
            draft.change("quantization", "none", "quantization_off.missing")


def _choose_dtype(request: PlanRequest, draft: _Draft) -> None:
    if draft.get("dtype") is not None:
        return
    device = request.device
    dtype: Dtype = "float32"
    if device.bf16:
        dtype = "bfloat16"
    elif device.kind == "cuda" and (device.compute_capability or (0, 0)) >= (7, 0):
        dtype = "float16"
    draft.values["dtype"] = Resolved(value=dtype, origin="planner", reason=f"dtype_chosen.{dtype}")


def _limit_length(request: PlanRequest, shape: ModelShape, draft: _Draft) -> None:
    """Lower max_length to the model's context, and to the longest row when the number was not the user's."""
    before = draft.get("max_length")
    if before > shape.context:
        draft.change("max_length", shape.context, "max_length_lowered.context", before=before, after=shape.context)
    current = draft.values["max_length"]
    longest = request.lengths.longest
    if request.lengths.measured and request.lengths.complete and current.origin != "user" and 0 < longest < current.value:
        after = max(8, longest)
        if after < current.value:
            draft.change("max_length", after, "max_length_lowered.rows", before=current.value, after=after)
    cut = request.lengths.share_longer(draft.get("max_length"))
    if cut > 0:
        key = "rows_too_long.drop" if draft.get("long_rows") == "drop" else "rows_too_long.truncate"
        draft.reasons.append(Notice(key=key, params={"percent": round(100 * cut), "length": draft.get("max_length")}))


def _search(request: PlanRequest, shape: ModelShape, draft: _Draft) -> _Candidate:
    """Return the quickest candidate that fits; if none does, the same with shorter rows; at last the smallest."""
    length = draft.get("max_length")
    candidates = _candidates(request, shape, draft, length)
    fitting = [candidate for candidate in candidates if candidate.upper <= request.available_bytes]
    if fitting:
        return _prefer(fitting)
    tight = [candidate for candidate in candidates if candidate.parts.total <= request.available_bytes]
    if tight:
        return min(tight, key=lambda candidate: candidate.upper)
    if draft.values["max_length"].origin != "user":
        # Rows that the data set does not have cost nothing: shortening starts below the longest one.
        needed = min(length, request.lengths.longest or length)
        shorter = [needed * eighths // 8 // 8 * 8 for eighths in range(7, 0, -1)]
        for after in (length for length in shorter if length >= SHORTEST_LENGTH):
            found = [c for c in _candidates(request, shape, draft, after) if c.parts.total <= request.available_bytes]
            if found:
                draft.change("max_length", after, "max_length_lowered.memory", before=length, after=after)
                return min(found, key=lambda candidate: candidate.upper)
    return min(candidates, key=lambda candidate: candidate.upper)


def _prefer(candidates: list[_Candidate]) -> _Candidate:
    """Return the largest micro-batch; among the two with and without recomputation the clearly quicker one.

    A micro-batch is never split for speed: the engine itself cuts where that helps.
    """
    first = candidates[0]
    other = next((found for found in candidates if found.run.checkpointing != first.run.checkpointing), first)
    return other if other.time.p50 < 0.95 * first.time.p50 else first


def _candidates(request: PlanRequest, shape: ModelShape, draft: _Draft, length: int) -> list[_Candidate]:
    """Return every split of the effective batch with and without recomputation, the least changed first."""
    batch, accumulation = draft.get("batch_size"), draft.get("gradient_accumulation_steps")
    product = batch * accumulation
    checkpointing = draft.get("gradient_checkpointing")
    rank, device = draft.get("lora_rank"), request.device
    longest = min(length, request.lengths.longest or length)
    whole = RunShape(
        device=device.kind,
        micro_batch=batch,
        length=longest,
        dtype=draft.get("dtype"),
        quantization=draft.get("quantization"),
        adapter_params=count_adapter_params(shape, rank, draft.get("target_modules")),
        rank=rank,
        checkpointing=False,
        compute_capability=(device.compute_capability or (0, 0))[0],
    )
    splits = _thin([micro for micro in _divisors(product) if micro <= batch and product // micro <= MOST_ACCUMULATION])
    rates = rate_device(device)
    found: list[_Candidate] = []
    for recompute in (False, True) if checkpointing is None else (checkpointing,):
        for micro in splits:
            run = replace(whole, micro_batch=micro, checkpointing=recompute)
            parts = estimate_memory(shape, replace(run, micro_batch=_rows_at_once(request, run)))
            time = estimate_seconds(
                shape, run, rates, request.lengths, train_rows=request.train_rows, heldout_rows=request.heldout_rows,
                epochs=draft.get("num_epochs"), accumulation=product // micro, max_length=length,
            )  # fmt: skip
            found.append(_Candidate(run, product // micro, parts, _upper(parts.total), time))
    return found


def _divisors(number: int) -> list[int]:
    """Return all divisors, the largest first."""
    small = [value for value in range(1, int(number**0.5) + 1) if number % value == 0]
    return sorted({*small, *(number // value for value in small)}, reverse=True)


def _thin(splits: list[int]) -> list[int]:
    """Keep at most MOST_SPLITS of them, the largest and the smallest among them."""
    if len(splits) <= MOST_SPLITS:
        return splits
    return [splits[i * (len(splits) - 1) // (MOST_SPLITS - 1)] for i in range(MOST_SPLITS)]


def _rows_at_once(request: PlanRequest, run: RunShape) -> int:
    """Return the rows that the engine really computes together: no more than there are, nor than it cuts at."""
    rows = min(run.micro_batch, request.train_rows or run.micro_batch)
    if run.device == "cpu":
        rows = min(rows, max(1, CPU_TOKENS_PER_MICRO_BATCH // run.length))
    return max(1, rows)


def _upper(peak: int) -> int:
    return round(peak * UPPER_SHARE) + UPPER_BYTES


def _record(draft: _Draft, best: _Candidate) -> None:
    """Write the chosen split and recomputation down, with the reason where they differ from what was asked."""
    batch, accumulation = draft.get("batch_size"), draft.get("gradient_accumulation_steps")
    micro = best.run.micro_batch
    if micro != batch:
        reason = "batch_split"
        params = {"batch": batch, "accumulation": accumulation, "micro": micro, "micro_accumulation": best.accumulation}
        draft.change("batch_size", micro, reason, **params)
        draft.values["gradient_accumulation_steps"] = Resolved(
            value=best.accumulation, origin="planner", reason=reason, params=params
        )
    if draft.get("gradient_checkpointing") is None:
        reason = f"gradient_checkpointing.{'on' if best.run.checkpointing else 'off'}"
        draft.values["gradient_checkpointing"] = Resolved(value=best.run.checkpointing, origin="planner", reason=reason)
        if best.run.checkpointing:
            draft.reasons.append(Notice(key=reason))


def _finish(request: PlanRequest, draft: _Draft, parts: MemoryParts, upper: int, time: RunTime) -> Plan:
    product = draft.get("batch_size") * draft.get("gradient_accumulation_steps")
    rows, epochs = request.train_rows, draft.get("num_epochs")
    if rows == 0:
        draft.reasons.append(Notice(key="rows_missing"))
    elif product > rows:
        draft.reasons.append(Notice(key="effective_batch_larger", params={"effective": product, "rows": rows}))
    if not request.lengths.measured and rows:
        draft.reasons.append(Notice(key="lengths_estimated"))
    if request.device.kind == "cuda" and not rate_device(request.device).known:
        draft.reasons.append(Notice(key="card_unknown", params={"device": request.device.name}))
    verdict = judge(parts.total, upper, request.available_bytes)
    warnings = []
    if verdict != "fits":
        params = {
            "model": request.model_name,
            "device": request.device.name,
            "needed_gb": _gigabytes(parts.total),
            "upper_gb": _gigabytes(upper),
            "available_gb": _gigabytes(request.available_bytes),
        }
        warnings.append(Notice(key=f"{verdict}.{request.device.kind}", params=params))
    return Plan(
        model_id=request.model_id,
        device_id=request.device.id,
        verdict=verdict,
        peak_bytes=parts.total,
        peak_bytes_upper=upper,
        available_bytes=request.available_bytes,
        parts=parts,
        seconds_p50=time.p50,
        seconds_p90=time.p90,
        steps=-(-rows // product) * epochs,
        train_rows=rows,
        heldout_rows=request.heldout_rows,
        resolved=draft.values,
        reasons=draft.reasons,
        warnings=warnings,
    )


def judge(peak: int, upper: int, available: int) -> Verdict:
    """Return how the bound and the prediction stand against the memory that is there."""
    if upper <= available:
        return "fits"
    return "tight" if peak <= available else "does_not_fit"


def _gigabytes(count: int) -> float:
    return round(count / GIB, 1)


def _plan_roughly(request: PlanRequest, draft: _Draft) -> Plan:
    """Plan a model of unknown shape from its stated memory: size and speed of a typical transformer that needs as much."""
    draft.reasons.append(Notice(key="shape_unknown", params={"model": request.model_name, "gb": request.vram_required_gb}))
    _choose_quantization(request, draft)
    _choose_dtype(request, draft)
    if draft.get("gradient_checkpointing") is None:
        draft.values["gradient_checkpointing"] = Resolved(value=False, origin="planner", reason="gradient_checkpointing.off")
    peak = round(max(0.1, request.vram_required_gb) * GIB)
    quantization: Quantization = draft.get("quantization")
    bytes_per_weight = 0.6 if quantization == "nf4" else 4.0 if draft.get("dtype") == "float32" else 2.0
    shape = _typical_shape(0.85 * peak / bytes_per_weight)
    best = _candidates(request, shape, draft, draft.get("max_length"))[0]
    fixed = round(0.85 * peak)
    parts = MemoryParts(
        weights=fixed, adapter=0, gradients=0, optimizer=0, activations=peak - fixed, logits=0, workspace=0, context=0
    )
    time = RunTime(best.time.p50, best.time.p50 * 2.0)
    return _finish(request, draft, parts, round(1.3 * peak), time)


def _typical_shape(params: float) -> ModelShape:
    """Return a Llama-like shape with about `params` parameters: 12 x hidden**2 per block, layers = hidden / 128."""
    hidden = max(256, round((params * 128 / 12) ** (1 / 3) / 128) * 128)
    heads = max(1, hidden // 128)
    return ModelShape(
        family="other", params=round(params), layers=max(2, hidden // 128), hidden=hidden, intermediate=8 * hidden // 3,
        heads=heads, kv_heads=heads, head_dim=128, vocab=32000, context=1 << 20, tied=False,
    )  # fmt: skip
