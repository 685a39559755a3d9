"""What will happen if this job is started: memory, time, each value and where it comes from."""

from typing import Any, Literal

from app.contracts.frozen import Frozen

Verdict = Literal["fits", "tight", "does_not_fit"]
Origin = Literal["user", "preset", "model", "planner", "default"]


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


class Resolved(Frozen):
    """One hyper-parameter: its value, who decided it, and the reason when the planner did."""

    value: Any
    origin: Origin
    reason: str = ""
    """Message key (see core/messages.py) when the planner changed the value."""
    params: dict[str, Any] = {}


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

    @property
    def fits(self) -> bool:
        """Whether the upper bound stays below the memory that is there."""
        return self.verdict != "does_not_fit"
