"""`job.json`: one frozen, fully resolved fine-tuning job. Nothing in it is "default somewhere"."""

import math
from typing import Literal

from pydantic import Field

from app.contracts.export import ExportFormat
from app.contracts.frozen import Frozen
from app.contracts.options import Dtype, LongRows, Method, Quantization, Scheduler
from app.contracts.plan import Plan


class ModelSource(Frozen):
    """Where the weights are or will be."""

    model_id: str
    display_name: str
    kind: Literal["embedded", "hub", "folder"]
    commit: str
    """40-hex commit for a hub model; content version for the embedded one; fingerprint of a folder."""
    path: str
    """Absolute folder that holds config.json, weights and tokenizer once `ready`."""
    ready: bool
    """False when the trainer must download the weights first (hub only)."""


class DatasetSource(Frozen):
    """The rows, hard-linked into the job folder so that deleting the data set cannot hurt a run."""

    dataset_id: str
    name: str
    content_hash: str
    train_rows: int
    heldout_rows: int


class Lora(Frozen):
    """Shape of the adapter (Hu et al. 2021, arXiv 2106.09685)."""

    rank: int
    alpha: int
    dropout: float
    target_modules: list[str]
    fan_in_fan_out: bool
    """True where weights are stored (in, out), as in GPT-2's Conv1D."""
    use_rslora: bool = False
    """Scale by alpha / sqrt(rank) instead of alpha / rank (Kalajdzievski 2023, arXiv 2312.03732)."""
    use_dora: bool = False
    """Train the length of each of the weight's rows beside its direction (Liu et al. 2024, arXiv 2402.09353)."""

    @property
    def scale(self) -> float:
        """The factor of the adapter's product."""
        return self.alpha / (math.sqrt(self.rank) if self.use_rslora else self.rank)


class Optimization(Frozen):
    """How the adapter is trained."""

    num_epochs: int
    learning_rate: float
    micro_batch_size: int
    gradient_accumulation_steps: int
    max_length: int
    long_rows: LongRows
    weight_decay: float
    warmup_ratio: float
    lr_scheduler: Scheduler
    max_grad_norm: float
    gradient_checkpointing: bool
    seed: int

    @property
    def effective_batch_size(self) -> int:
        """Rows per optimizer step."""
        return self.micro_batch_size * self.gradient_accumulation_steps


class ResumeFrom(Frozen):
    """Where a new job goes on."""

    job_id: str = Field(min_length=1, max_length=200)
    """A failed or cancelled job."""
    checkpoint: str | None = Field(default=None, max_length=100)
    """One of its checkpoints by name; None = the newest that is whole."""


class TrainingJob(Frozen):
    """Everything that `python -m app.training <job folder>` needs."""

    schema_version: Literal[1] = 1
    job_id: str
    name: str
    created_at: str
    model: ModelSource
    dataset: DatasetSource
    lora: Lora
    optimization: Optimization
    device_id: str
    dtype: Dtype
    quantization: Quantization
    checkpoint_every_seconds: float
    checkpoint_every_steps: int | None = None
    """Optimizer steps; None = by time alone."""
    checkpoints_kept: int = 2
    checkpoints_bytes: int | None = None
    """At most so much disk for the checkpoints together; None = by count alone."""
    method: Method = "sft"
    beta: float = 0.1
    """DPO and KTO: how strongly the model is held near its start."""
    keep_best: bool = False
    """Whether the result is the adapter of the lowest loss on held-out rows, not the last one."""
    early_stopping: int = 0
    """End after so many evaluations without a lower loss on held-out rows; 0 = never."""
    report_rows: int = 0
    """Held-out rows that are answered before and after, for the report; 0 = none."""
    exports: list[ExportFormat] = []
    """Tried with an untrained adapter before the training, made after it."""
    continue_from: str | None = None
    """The job whose finished adapter this one starts with (a copy lies in the job's folder)."""
    resumed_from: str | None = None
    """The failed or cancelled job whose checkpoint this one goes on from (a copy lies in the job's folder)."""
    plan: Plan
    versions: dict[str, str]
