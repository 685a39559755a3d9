"""What an export is asked to be, how far it is, and its certificate: how the file answers beside the trained model."""

from typing import Any, Literal, get_args

from app.contracts.frozen import Frozen
from app.contracts.plan import Notice

ExportFormat = Literal["adapter", "merged", "gguf-f16", "gguf-q8_0", "gguf-q6_k", "gguf-q5_k_m", "gguf-q4_k_m", "gguf-q4_0"]
EXPORT_FORMATS: tuple[ExportFormat, ...] = get_args(ExportFormat)
K_QUANTS: frozenset[ExportFormat] = frozenset({"gguf-q6_k", "gguf-q5_k_m", "gguf-q4_k_m"})
"""Written by llama.cpp's own code (export/k_quants.py)."""
LLAMA_CPP_PACKAGE = "xllamacpp"
GGUF_SHAPES = frozenset({"gpt2", "llama", "mistral", "qwen2", "qwen3", "phi"})
"""transformers' `model_type` of the models that can be written as GGUF (export/architectures.py)."""
ExportStatus = Literal["queued", "running", "succeeded", "failed"]
ExportPhase = Literal["writing", "reference", "loading_back", "llama_cpp", "finishing"]


class PackingCost(Frozen):
    """What packing cost another model: a figure before one chooses. The certificate tells it of one's own."""

    top1: float
    """Share of the places at which the packed model finds the same token likeliest, 0..1."""
    kl: float
    """Mean divergence from the trained model, in nats."""


MEASURED_ON = "SmolLM2-135M"
"""A small model suffers more than large ones do."""
MEASURED: dict[ExportFormat, PackingCost] = {
    "gguf-q8_0": PackingCost(top1=0.9898, kl=0.0013),
    "gguf-q6_k": PackingCost(top1=0.9817, kl=0.0066),
    "gguf-q5_k_m": PackingCost(top1=0.9043, kl=0.15),
    "gguf-q4_k_m": PackingCost(top1=0.9246, kl=0.085),
    "gguf-q4_0": PackingCost(top1=0.7923, kl=0.45),
}
"""Loaded back by transformers; from docs/benchmarks/exports, whose files a test reads."""


class Agreement(Frozen):
    """How one engine that loaded the exported files answers beside the trained model, at the same tokens."""

    engine: Literal["transformers", "llama.cpp"]
    version: str
    arithmetic: str
    """`float32`, `bfloat16`, or for llama.cpp the type of the file's weights."""
    positions: int
    """Places in the rows at which the next token was predicted by both."""
    top1: float
    """Share of them at which both find the same token likeliest, 0..1."""
    kl: float
    """Mean divergence of the exported model's distribution from the trained model's, in nats. The likeliest tokens of the
    trained model count one by one and all others together, which can only make it smaller."""
    loss: float | None
    """Mean cross-entropy of the exported model at these places, in nats; None where the engine does not tell it."""
    tokens_per_second: float | None
    """Of one answer, without the prompt, on this machine's processor."""
    least_top1: float
    """The share that an export of this kind has to reach."""
    most_kl: float

    @property
    def passed(self) -> bool:
        """Whether both figures are within their bounds, with no allowance for chance."""
        return self.top1 >= self.least_top1 and self.kl <= self.most_kl


class PromptCheck(Frozen):
    """Whether the exported tokenizer and template make the ids that training saw."""

    compared: int
    equal: int


class Certificate(Frozen):
    """`certificate.json` beside an export."""

    schema_version: Literal[1] = 1
    format: ExportFormat
    passed: bool
    rehearsal: bool
    """True when the adapter was an untrained one, to try the export before a training."""
    job_id: str
    model_id: str
    model_commit: str
    dataset_hash: str
    adapter_sha256: str
    created_at: str
    rows: int
    """Compared at every token but the first, in whole rows except the last."""
    rows_in_all: int | None = None
    """How many of `row_source` there are; None in certificates made before 2026-11-23, which compared learned tokens only."""
    row_source: Literal["heldout", "training"]
    reference: str
    """What the export is compared with."""
    reference_loss: float
    """Mean cross-entropy of the trained model at the compared places, in nats."""
    agreements: list[Agreement]
    prompts: PromptCheck | None
    """None where llama.cpp was not asked."""
    notices: list[Notice]
    """What was not checked and why, and why it failed if it did."""
    size_bytes: int
    files: dict[str, str]
    """SHA-256 of each exported file, the certificate itself left out."""
    seconds: float
    versions: dict[str, str]


class ExportState(Frozen):
    """`<format>.json`: how far an export is."""

    format: ExportFormat
    status: ExportStatus
    phase: ExportPhase | None = None
    created_at: str
    finished_at: str | None = None
    licence: str = ""
    """Of the base model, for the model card; empty where it is not known."""
    error_key: str | None = None
    error_params: dict[str, Any] = {}
    certificate: Certificate | None = None
    """Also of an export that failed by it."""
    pushed_to: str | None = None
    """Address of the repository that it was sent to."""
