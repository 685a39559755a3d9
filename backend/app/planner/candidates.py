"""What a job can be varied in, and what each variant takes: memory at once, time only when it is asked for."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from app.contracts.options import Dtype, LongRows, Quantization
from app.contracts.plan import Bound, MemoryMethod, MemoryParts, ModelShape, Resolved, TimeMethod
from app.planner.bound import raise_peak
from app.planner.correction import Correction, find_correction
from app.planner.gpus import Rates, rate_device
from app.planner.memory import count_probe_bytes, estimate_memory
from app.planner.micro_batches import MicroSize, count_lanes, simulate_steps
from app.planner.prepared import count_prepared_bytes
from app.planner.request import PlanRequest
from app.planner.run_shape import RunShape, count_largest
from app.planner.shapes import count_adapter_params
from app.planner.time import RunTime, estimate_seconds
from app.planner.traced import estimate_traced, find_profile

MOST_ACCUMULATION = 4096
"""The contract's limit (contracts/options.py): a plan must be a request that can be repeated."""
MOST_BATCH = 1024
"""The same for the micro-batch."""
MOST_SPLITS = 10
"""Splits of the effective batch that are compared."""


PACKED_FAMILIES = frozenset({"gpt2", "llama", "mistral", "phi", "qwen2", "qwen3"})
"""Families (shapes.py) whose attention on a processor is ours, so that their rows are packed (training/attention.py)."""


@dataclass(frozen=True, slots=True)
class Knobs:
    """What the planner may turn. Their product of `micro_batch` and `accumulation` is the user's."""

    micro_batch: int
    accumulation: int
    max_length: int
    checkpointing: bool
    dtype: Dtype
    quantization: Quantization

    def changes(self, other: "Knobs") -> dict[str, Any]:
        """Return the options, by their public names, in which `other` differs from this."""
        return {
            name: getattr(other, knob) for knob, name in OPTIONS.items() if getattr(other, knob) != getattr(self, knob)
        }  # fmt: skip


OPTIONS = {
    "micro_batch": "batch_size",
    "accumulation": "gradient_accumulation_steps",
    "max_length": "max_length",
    "checkpointing": "gradient_checkpointing",
    "dtype": "dtype",
    "quantization": "quantization",
}
"""Knob -> its name among FinetuningOptions."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One variant with its memory."""

    knobs: Knobs
    run: RunShape
    parts: MemoryParts
    method: MemoryMethod
    bound: Bound
    upper: int
    """Upper bound of the peak in bytes."""

    @property
    def peak(self) -> int:
        """The predicted peak in bytes."""
        return self.parts.total


@dataclass(slots=True)
class Estimator:
    """Weighs and times variants of one request; each is worked out once."""

    request: PlanRequest
    shape: ModelShape
    method: MemoryMethod | None = None
    """Given when the shape itself is a guess."""
    _rates: Rates = field(init=False)
    _adapter_params: int = field(init=False)
    _rank: int = field(init=False)
    _weighed: dict[Knobs, Candidate] = field(default_factory=dict)
    _timed: dict[Knobs, RunTime] = field(default_factory=dict)
    _corrections: dict[Dtype, Correction] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._rates = rate_device(self.request.device)
        self._rank = self._value("lora_rank")
        self._adapter_params = count_adapter_params(
            self.shape, self._rank, self._value("target_modules"), dora=self._value("use_dora")
        )

    def _value(self, name: str) -> Any:
        return self.request.values[name].value

    @property
    def long_rows(self) -> LongRows:
        """What happens to rows beyond max_length."""
        chosen: LongRows = self._value("long_rows")
        return chosen

    def weigh(self, knobs: Knobs) -> Candidate:
        """Return the variant with its memory: traced where a profile covers it, else by the closed form."""
        if (found := self._weighed.get(knobs)) is None:
            found = self._weighed[knobs] = self._weigh(knobs)
        return found

    def _weigh(self, knobs: Knobs) -> Candidate:
        request, device = self.request, self.request.device
        longest = min(knobs.max_length, request.lengths.longest or knobs.max_length)
        run = RunShape(
            device=device.kind,
            micro_batch=knobs.micro_batch,
            length=longest,
            dtype=knobs.dtype,
            quantization=knobs.quantization,
            adapter_params=self._adapter_params,
            rank=self._rank,
            checkpointing=knobs.checkpointing,
            compute_capability=(device.compute_capability or (0, 0))[0],
            packed=device.kind == "cpu" and self.shape.family in PACKED_FAMILIES,
            fused_attention=device.fused_attention,
            lanes=count_lanes(device.cores or 1) if device.kind == "cpu" else 1,
            method=self._value("method") or "sft",
        )
        profile = find_profile(list(request.profiles), run) if request.profiles else None
        if profile is not None:
            run = replace(run, packed=profile.packed)
        rows_per_step = min(max(1, request.train_rows), knobs.micro_batch * knobs.accumulation)
        steps = -(-request.train_rows // rows_per_step) * self._value("num_epochs")
        parts = max(
            (
                _hold([estimate_traced(profile, micro) if profile else estimate_memory(self.shape, micro) for micro in held])
                for held in self._list_largest(run, rows_per_step, knobs.max_length, steps)
            ),
            key=lambda parts: parts.total,
        )
        prepared = count_prepared_bytes(run, request.lengths, knobs.max_length, rows_per_step, steps)
        extra = prepared + count_probe_bytes(run)
        parts = parts.model_copy(update={"workspace": parts.workspace + extra})
        method = self.method or ("traced" if profile else "closed_form")
        bound = request.residuals.find_bound(device.kind, knobs.quantization, method)
        return Candidate(knobs, run, parts, method, bound, raise_peak(parts.total, bound))

    def _list_largest(self, run: RunShape, rows_per_step: int, max_length: int, steps: int) -> list[list[RunShape]]:
        """Return the micro-batches that are held at the same time where that can take the most memory.

        On a card one of the longest rows. On the processor those of two simulated steps: the most tokens, the most scores.
        """
        rows = count_largest(run.micro_batch, self.request.train_rows or run.micro_batch, run.group)
        lengths, _ = self.request.lengths.cut(max_length, self.long_rows)
        if run.device != "cpu" or not lengths.quantiles:
            return [[replace(run, micro_batch=rows)] * min(run.lanes, rows_per_step)]
        largest = simulate_steps(lengths, run, rows_per_step, max_length, steps).heaviest
        return [[_size(run, part) for part in parts] for parts in largest]

    def time(self, candidate: Candidate) -> RunTime:
        """Return how long the whole run takes with this variant."""
        knobs = candidate.knobs
        if (found := self._timed.get(knobs)) is None:
            request = self.request
            lengths, factor = request.lengths.cut(knobs.max_length, self.long_rows)
            bare = estimate_seconds(
                self.shape, candidate.run, self._rates, lengths,
                train_rows=round(request.train_rows * factor), heldout_rows=round(request.heldout_rows * factor),
                epochs=self._value("num_epochs"), accumulation=knobs.accumulation, max_length=knobs.max_length,
                calibration=request.calibration, profiles=request.profiles,
            )  # fmt: skip
            found = self._timed[knobs] = self._correct(bare, knobs.dtype)
        return found

    def _correct(self, bare: RunTime, dtype: Dtype) -> RunTime:
        """Return the time as the finished jobs of this machine correct it."""
        correction = self.find_correction(dtype)
        if not correction.jobs or bare.p50 <= 0:
            return bare
        p50 = bare.p50 * correction.factor
        return RunTime(p50, p50 * correction.spread(bare.p90 / bare.p50))

    def find_correction(self, dtype: Dtype) -> Correction:
        """Return what finished jobs say about times in this precision."""
        if (found := self._corrections.get(dtype)) is None:
            request = self.request
            found = self._corrections[dtype] = find_correction(
                request.finished,
                device=request.device.kind,
                device_name=request.device.name,
                dtype=dtype,
                method=self.time_method,
                step_factor=request.calibration.step_factor if request.calibration else None,
            )
        return found

    @property
    def time_method(self) -> TimeMethod:
        """Where the device's pace comes from."""
        if self.method == "rough":
            return "guessed"
        return "calibrated" if self.request.calibration else "table" if self._rates.known else "guessed"

    def count_rows(self, max_length: int) -> int:
        """Return the training rows after long ones were dropped or split."""
        return round(self.request.train_rows * self.request.lengths.cut(max_length, self.long_rows)[1])


def _hold(each: Sequence[MemoryParts]) -> MemoryParts:
    """Return the memory of a step that holds these micro-batches at the same time."""
    largest = max(each, key=lambda parts: parts.total)
    together = {"activations": sum(parts.activations for parts in each), "logits": sum(parts.logits for parts in each)}
    return largest.model_copy(update=together)


def _size(run: RunShape, part: MicroSize) -> RunShape:
    """Return the run's shape with this micro-batch."""
    return replace(run, micro_batch=part.rows, length=part.length, packed_tokens=part.tokens if run.packed else 0)


@lru_cache(maxsize=256)
def list_splits(product: int, most: int) -> tuple[int, ...]:
    """Return micro-batches up to `most` that divide the effective batch, the largest first, at most MOST_SPLITS."""
    small = [value for value in range(1, int(product**0.5) + 1) if product % value == 0]
    divisors = sorted({*small, *(product // value for value in small)}, reverse=True)
    fitting = [micro for micro in divisors if micro <= most and product // micro <= MOST_ACCUMULATION]
    if len(fitting) > MOST_SPLITS:
        fitting = [fitting[i * (len(fitting) - 1) // (MOST_SPLITS - 1)] for i in range(MOST_SPLITS)]
    return tuple(fitting)


def name_options(knobs: Knobs) -> dict[str, Any]:
    """Return the knobs by their names among FinetuningOptions."""
    return {name: getattr(knobs, knob) for knob, name in OPTIONS.items()}


def is_users(resolved: Resolved) -> bool:
    """Return whether a value is the user's own and must be kept."""
    return resolved.origin == "user"
