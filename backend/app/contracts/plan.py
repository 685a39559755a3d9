"""What will happen if this job is started: memory, time, each value and where it comes from."""

from typing import Any, Literal

from app.contracts.frozen import Frozen
from app.contracts.options import Objective

Verdict = Literal["fits", "tight", "does_not_fit"]
Origin = Literal["user", "preset", "model", "planner", "default"]
MemoryMethod = Literal["traced", "closed_form", "rough"]
"""A traced step, the closed form, or the entry's stated memory because nobody knows the model's shape."""
TimeMethod = Literal["calibrated", "table", "guessed"]
"""Rates measured on this machine, rates of a known device, or a guess from the kind of device."""
ReservedMethod = Literal["replayed", "replayed_expandable"]
"""The allocator's rules followed on two traced steps: as it is by default (checked on a T4), or with segments that expand, as
a trainer sets it (no card was at hand to check that)."""
Knob = Literal["runner_up", "batch_size", "gradient_checkpointing", "max_length", "dtype", "quantization", "objective"]


class ModelShape(Frozen):
    """The sizes of a decoder-only transformer, as its config.json gives them."""

    family: Literal["gpt2", "llama", "qwen2", "qwen3", "mistral", "gemma3", "phi", "other"]
    params: int
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    context: int
    tied: bool
    """Whether the output head shares the embedding matrix."""
    matrix_weights: int | None = None
    """Entries of the blocks' linear layers where the architecture itself was asked; None = by the family's formulas."""


class Resolved(Frozen):
    """One hyper-parameter: its value, who decided it, and the reason when the planner did."""

    value: Any
    origin: Origin
    reason: str = ""
    """Message key (see core/messages.py) when the planner changed the value."""
    params: dict[str, Any] = {}
    automatic: Any = None
    """What the value would be if the user had not set it; the value itself for all others."""


class Notice(Frozen):
    """A reason or a warning: a message key with its parameters, rendered in the reader's language."""

    key: str
    params: dict[str, Any] = {}

    @property
    def code(self) -> str:
        """The public code: the key up to the first dot."""
        return self.key.split(".")[0]


class MemoryParts(Frozen):
    """Peak memory by purpose, in bytes."""

    weights: int
    adapter: int
    gradients: int
    optimizer: int
    activations: int
    logits: int
    workspace: int
    context: int
    """CUDA context, or interpreter and libraries on the processor."""

    @property
    def total(self) -> int:
        """The sum: the predicted peak."""
        return sum(self.model_dump().values())


class Bound(Frozen):
    """How far the measured peak may lie above the predicted one: split-conformal over past runs (planner/bound.py)."""

    confidence: float | None = None
    """Share of runs that stay below the bound, 0..1; None when there are no measurements of this kind to derive one."""
    samples: int = 0
    """Runs whose measured and predicted peaks the factor comes from."""
    own_samples: int = 0
    """Those among them that ran on this machine."""
    factor: float = 1.0
    """Upper bound over predicted peak."""
    extra_bytes: int = 0
    """Added to the product; 0 when the factor comes from measurements."""


class TimeBasis(Frozen):
    """What predicted seconds rest on, so that the finished job can be compared with them (planner/correction.py)."""

    device_name: str = ""
    step_factor: float | None = None
    """How the steps of the calibration compare with the table of devices; None without a calibration."""
    factor: float = 1.0
    """By which earlier jobs of this machine changed the seconds; it is contained in them."""
    jobs: int = 0
    """How many finished jobs the factor rests on."""


class Alternative(Frozen):
    """Another plan for the same job: what changes, what it costs, what it brings."""

    kind: Knob
    changes: dict[str, Any]
    """Options of FinetuningOptions and their other values; sent with the same request they give this plan."""
    peak_bytes: int
    peak_bytes_upper: int
    seconds_p50: float
    seconds_p90: float
    verdict: Verdict
    reason: Notice


class Plan(Frozen):
    """The planner's answer; starts nothing."""

    model_id: str
    device_id: str
    verdict: Verdict
    peak_bytes: int
    peak_bytes_upper: int
    """Peak with the planner's margin; the verdict compares this with `available_bytes`."""
    available_bytes: int
    parts: MemoryParts
    seconds_p50: float
    seconds_p90: float
    steps: int
    """Optimizer steps over all epochs."""
    train_rows: int
    heldout_rows: int
    resolved: dict[str, Resolved]
    """Every hyper-parameter of FinetuningOptions, by name."""
    reasons: list[Notice]
    warnings: list[Notice]
    objective: Objective = "balanced"
    memory_method: MemoryMethod = "closed_form"
    time_method: TimeMethod = "table"
    time_basis: TimeBasis = TimeBasis()
    bound: Bound = Bound()
    cut_rows_share: float = 0.0
    """Share of the rows that are longer than max_length, 0..1."""
    cut_tokens_share: float = 0.0
    """Share of all tokens that lie beyond max_length (in dropped rows: all of them), 0..1; 0 when rows are split."""
    reserved_bytes: int | None = None
    """What the CUDA allocator will have reserved at the peak, without the context; None on the processor, and until the
    allocator was replayed on this very step (seconds of work, done while nobody waits)."""
    reserved_method: ReservedMethod | None = None
    alternatives: list[Alternative] = []

    @property
    def fits(self) -> bool:
        """Whether the upper bound stays below the memory that is there."""
        return self.verdict != "does_not_fit"
