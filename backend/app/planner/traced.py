"""Memory and work of a micro-batch from a traced profile: sums of a few terms, no torch, microseconds."""

import hashlib
import importlib.metadata
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from app.contracts.hardware import DeviceKind
from app.contracts.plan import MemoryParts
from app.contracts.trace import Affine, Hump, LinearsCall, ReplayCall, StepCosts, TraceProfile, TraceRequest
from app.planner.memory import CPU_HOLES, CUDA_CONTEXT_BYTES, PROCESS_BYTES, PRODUCT_ATTENTION_TOKENS
from app.planner.run_shape import RunShape

_TRACED_PACKAGES = ("torch", "transformers")
_TRACED_SOURCES = ("training", "planner/trace")
"""Folders below `app` whose code decides what a trace shows: a profile made by other code is not used."""


Terms = tuple[float, float, float, float, float, float, float]
"""Of 1, S, S * S, T, A, A * S, N: see contracts.trace.Affine."""


@dataclass(frozen=True, slots=True)
class Work:
    """What a device has to do for one part of a step. Operations, bytes, kernels."""

    flops_half: float
    flops_full: float
    flops_attention: float
    bytes_elementwise: float
    bytes_gemm: float
    bytes_unpacked: float
    launches: float


def find_regime(config: dict[str, object], device: DeviceKind, length: int) -> tuple[int, int]:
    """Return the lengths around `length` (both inclusive) in which the model's step does the same operations.

    The graph changes where attention does: plain products give way to the fused kernel on the processor, and a sliding
    window begins to mask.
    """
    text = config.get("text_config")
    sizes = text if isinstance(text, dict) else config
    window = sizes.get("sliding_window")
    borders = [PRODUCT_ATTENTION_TOKENS] if device == "cpu" else []
    if isinstance(window, int) and not isinstance(window, bool) and sizes.get("use_sliding_window", True):
        borders.append(window)
    low, high = 1, 1 << 17
    for border in borders:
        if length <= border:
            high = min(high, border)
        else:
            low = max(low, border + 1)
    return low, high


def find_profile(profiles: Sequence[TraceProfile], run: RunShape) -> TraceProfile | None:
    """Return the profile of this run's variant and length, None when it was not traced."""
    for profile in profiles:
        wanted = profile.request
        if (
            wanted.device == run.device
            and wanted.compute_capability == run.compute_capability
            and wanted.dtype == run.dtype
            and wanted.quantization == run.quantization
            and wanted.checkpointing == run.checkpointing
            and wanted.rank == run.rank
            and wanted.length_from <= run.length <= wanted.length_to
        ):
            return profile
    return None


def estimate_traced(profile: TraceProfile, run: RunShape, labels: int | None = None) -> MemoryParts:
    """Return the predicted peak of one optimizer step, by purpose: the largest hump.

    `labels` are the trained tokens of the micro-batch; None = all of them.
    """
    labelled = run.tokens if labels is None else min(labels, run.tokens)
    terms = count_terms(run.tokens, run.places, run.length, labelled)
    highest = max(_select_humps(profile, labelled), key=lambda hump: _sum(hump, terms))
    on_cpu = run.device == "cpu"
    holes = CPU_HOLES if on_cpu else 1.0
    return MemoryParts(
        weights=round(_value(highest.weights, terms)),
        adapter=round(_value(highest.adapter, terms)),
        gradients=round(_value(highest.gradients, terms)),
        optimizer=round(_value(highest.optimizer, terms)),
        activations=round(holes * _value(highest.activations, terms)),
        logits=round(_value(highest.logits, terms)),
        workspace=round(_value(highest.workspace, terms)),
        context=PROCESS_BYTES if on_cpu else CUDA_CONTEXT_BYTES,
    )


def count_live_bytes(profile: TraceProfile, batch: int, length: int, labels: int) -> int:
    """Return the live bytes at the step's highest moment, context excluded."""
    terms = count_terms(batch * length, batch * length, length, labels)
    return round(max(_sum(hump, terms) for hump in _select_humps(profile, labels)))


def count_work(costs: StepCosts, batch: float, length: float, labels: float) -> Work:
    """Return the work of `costs` (one of the profile's three) for a padded micro-batch; sizes may be expected values."""
    terms = count_terms(batch * length, batch * length, length, labels)
    return Work(
        flops_half=_value(costs.flops_half, terms),
        flops_full=_value(costs.flops_full, terms),
        flops_attention=_value(costs.flops_attention, terms),
        bytes_elementwise=_value(costs.bytes_elementwise, terms),
        bytes_gemm=_value(costs.bytes_gemm, terms),
        bytes_unpacked=_value(costs.bytes_unpacked, terms),
        launches=_value(costs.launches, terms),
    )


def count_terms(tokens: float, places: float, length: float, labels: float) -> Terms:
    """Return the values that `Affine`'s coefficients multiply, in its order."""
    return (1.0, length, length * length, tokens, places, places * length, labels)


def list_coefficients(affine: Affine) -> Terms:
    """Return the coefficients in the order of `count_terms`."""
    return (
        affine.constant,
        affine.per_length,
        affine.per_length_squared,
        affine.per_token,
        affine.per_place,
        affine.per_place_length,
        affine.per_label,
    )


def _select_humps(profile: TraceProfile, labels: float) -> list[Hump]:
    """Return the moments that come about with so many labelled tokens."""
    size = "one_chunk" if labels <= profile.chunk_rows else "several_chunks"
    return [hump for hump in profile.humps if hump.labels in {"any", size}]


def _value(affine: Affine, terms: Terms) -> float:
    return sum(a * b for a, b in zip(list_coefficients(affine), terms, strict=True))


def _sum(hump: Hump, terms: Terms) -> float:
    parts = (
        hump.weights,
        hump.adapter,
        hump.gradients,
        hump.optimizer,
        hump.activations,
        hump.logits,
        hump.workspace,
    )
    return sum(_value(part, terms) for part in parts)


def write_config(config: dict[str, object]) -> str:
    """Return a config.json as `TraceRequest.config` wants it: the same text for the same model."""
    return json.dumps(config, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def name_trace(request: TraceRequest | ReplayCall | LinearsCall) -> str:
    """Return the name under which an answer is kept: a hash of the request, the libraries and the code that is traced."""
    return hashlib.sha256(f"{request.model_dump_json()}\n{_identify_code()}".encode()).hexdigest()


@lru_cache(maxsize=1)
def _identify_code() -> str:
    versions = [f"{package}=={importlib.metadata.version(package)}" for package in _TRACED_PACKAGES]
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for folder in _TRACED_SOURCES:
        for file in sorted((root / folder).glob("*.py")):
            digest.update(file.read_bytes())
    return " ".join([*versions, digest.hexdigest()])
