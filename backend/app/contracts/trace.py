"""What passes between the planner and the trace worker: one training step followed on torch's `meta` device.

A profile is small (some ten sums) and exact for every batch of the lengths it covers: each tensor of a training step
has a size that is affine in the terms of `Affine`, so a step traced at a few shapes gives the coefficients for all.
"""

from typing import Annotated, Literal

from pydantic import Field

from app.contracts.frozen import Frozen
from app.contracts.hardware import DeviceKind
from app.contracts.options import Dtype, Quantization
from app.contracts.plan import MemoryParts

Phase = Literal["forward", "loss", "backward", "optimizer"]
Labels = Literal["any", "one_chunk", "several_chunks"]
"""All; at most `TraceProfile.chunk_rows`; more than that."""


class TraceRequest(Frozen):
    """One variant of a training step. Everything that changes the graph, nothing that only changes sizes."""

    config: str
    """The model's config.json as JSON text (keys sorted, so that equal models give equal requests)."""
    rank: Annotated[int, Field(ge=1)]
    target_modules: Annotated[list[str], Field(min_length=1)]
    dropout: bool = False
    """Whether the adapter drops inputs out: one more mask per adapted layer."""
    dora: bool = False
    """Whether the adapter trains the lengths of the weights' rows."""
    dtype: Dtype
    quantization: Quantization = "none"
    double_quant: bool = True
    """NF4 only: scales are quantised as well."""
    checkpointing: bool
    device: DeviceKind
    compute_capability: int = 0
    """Major version, 0 for the processor."""
    length_from: int = 1
    length_to: int = 1 << 17
    """Lengths (tokens, both inclusive) in which the graph is the same: `planner.traced.find_regime` gives them."""


class Affine(Frozen):
    """A size or cost of one micro-batch: T tokens, N of them labelled, at A = B * S places of B rows with S each.

    A padded micro-batch has T = A. A packed one has fewer tokens; only attention sees it as places.
    """

    constant: float = 0.0
    per_length: float = 0.0
    """times S"""
    per_length_squared: float = 0.0
    """times S * S"""
    per_token: float = 0.0
    """times T"""
    per_place: float = 0.0
    """times A"""
    per_place_length: float = 0.0
    """times A * S"""
    per_label: float = 0.0
    """times N"""


class Hump(Frozen):
    """The live bytes at one moment of the step that can be its peak, by purpose. The context is not among them."""

    phase: Phase
    labels: Labels = "any"
    """With which numbers of labelled tokens the moment comes about."""
    weights: Affine
    adapter: Affine
    gradients: Affine
    optimizer: Affine
    activations: Affine
    logits: Affine
    workspace: Affine


class StepCosts(Frozen):
    """Work of one part of a step, each an `Affine` of the micro-batch."""

    flops_half: Affine
    """Multiplications and additions of matrix products in 16 bits, attention counted in."""
    flops_full: Affine
    """The same in 32 bits."""
    flops_attention: Affine
    """The part of the two that attention does (fused or as batched products)."""
    bytes_elementwise: Affine
    """Read and written by everything that is no matrix product."""
    bytes_gemm: Affine
    """Read and written by matrix products."""
    bytes_unpacked: Affine
    """Read and written while 4-bit weights are unpacked."""
    launches: Affine
    """Kernels started."""


class TraceProfile(Frozen):
    """All that the planner needs to know about one variant of a model's training step."""

    request: TraceRequest
    layers: int
    params: int
    """Of the frozen model, a shared head counted once."""
    adapter_params: int
    chunk_rows: int
    """Labelled rows that the loss works on at a time."""
    packed: bool = False
    """Whether the model takes packed micro-batches."""
    humps: Annotated[list[Hump], Field(min_length=1)]
    micro: StepCosts
    """Forward and backward pass of one micro-batch."""
    evaluation: StepCosts
    """Forward pass without gradients."""
    update: StepCosts
    """Clipping and the optimizer, once per step whatever its size."""
    trace_seconds: float
    versions: dict[str, str]
    """Of torch and transformers, as traced."""


class ProfileCall(Frozen):
    """Ask the worker for a profile."""

    call: Literal["profile"] = "profile"
    request: TraceRequest


class ReplayCall(Frozen):
    """Ask the worker to follow the step of one shape in full and to replay the allocator on it."""

    call: Literal["replay"] = "replay"
    request: TraceRequest
    batch: Annotated[int, Field(ge=1)]
    length: Annotated[int, Field(ge=1)]
    labels: Annotated[int, Field(ge=1)]
    """Labelled tokens, at most batch * length."""
    earlier_length: int | None = None
    """Length of the micro-batch before this one: other sizes leave holes. None = the same."""
    expandable: bool = True
    """On a card: whether its allocator's segments expand, as they do in a trainer of ours."""


class LinearsCall(Frozen):
    """Ask the worker what a model's architecture holds."""

    call: Literal["linears"] = "linears"
    config: str
    """The model's config.json as JSON text."""


class Linears(Frozen):
    """The linear layers of a model's blocks, and what the whole model weighs."""

    names: Annotated[list[str], Field(min_length=1)]
    """As LoRA targets: each matches these layers and no other module."""
    params: Annotated[int, Field(ge=1)]
    """Of the whole model, every expert and every other part counted, a shared head once."""
    matrix_weights: Annotated[int, Field(ge=1)]
    """Entries of the blocks' linear layers: what 4 bits hold."""


class Replay(Frozen):
    """Outcome of a full replay."""

    parts: MemoryParts
    """Live bytes at the peak, by purpose, context excluded (0)."""
    allocated_bytes: int
    """What the allocator would report as its peak of used blocks."""
    reserved_bytes: int
    """What it would hold of the device."""
    trace_seconds: float


class TraceAnswer(Frozen):
    """One line from the worker: what was asked for, or why there is none."""

    profile: TraceProfile | None = None
    replay: Replay | None = None
    linears: Linears | None = None
    error_key: str | None = None
    """Message key: `unsupported.trace`, `invalid.target_modules`, ..."""
    error_params: dict[str, str] = {}
