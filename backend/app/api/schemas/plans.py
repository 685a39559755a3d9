"""What the plan route answers, and the body that it shares with a start."""

from typing import Any

from pydantic import BaseModel, Field

from app.contracts.export import EXPORT_FORMATS, ExportFormat
from app.contracts.job import ResumeFrom
from app.contracts.options import FinetuningOptions, Objective
from app.contracts.plan import Bound, Knob, MemoryMethod, MemoryParts, Origin, ReservedMethod, TimeMethod, Verdict


class StartFinetuningRequest(FinetuningOptions):
    """Body of POST /api/start-finetuning and POST /api/plans; absent or null = automatic."""

    dataset_id: str = Field(min_length=1, max_length=200)
    model_name: str = Field(min_length=1, max_length=300)
    """A model id of the catalogue, a hub id, or a local folder inside the allowed roots."""
    name: str | None = Field(default=None, max_length=200)
    """A title for the job; automatic = model and data set."""
    device_id: str | None = Field(default=None, max_length=20)
    """`cpu` or `cuda:N`; automatic = the best device."""
    continue_from: str | None = Field(default=None, max_length=200)
    """A job that has succeeded with the same model: its adapter is trained further; automatic = a new adapter."""

    resume_from: ResumeFrom | None = None
    """A failed or cancelled job, and one of its checkpoints: a new job goes on from there with the same values."""
    checkpoint_every_steps: int | None = Field(default=None, ge=1, le=1_000_000)
    """Optimizer steps between checkpoints; automatic = by time alone."""
    checkpoint_every_seconds: float | None = Field(default=None, ge=0, le=86_400)
    """Seconds between checkpoints; automatic = 300."""
    checkpoints_kept: int | None = Field(default=None, ge=1, le=100)
    """Older ones are removed, except the best, a paused-at and an exported one; automatic = 2."""
    checkpoints_bytes: int | None = Field(default=None, ge=1, le=1 << 50)
    """At most so much disk for the checkpoints of the job together, with the same exceptions; automatic = by count alone."""

    exports: list[ExportFormat] = Field(default=[], max_length=len(EXPORT_FORMATS))
    """Formats to write the model in when it is trained; each is tried first, with an untrained adapter."""

    def arguments(self) -> dict[str, Any]:
        """Return the fields as the keyword arguments of `finetune` and `plan`."""
        return dict(self)


class NoticeRead(BaseModel):
    """A reason or a warning in the reader's language."""

    code: str
    message: str
    hint: str


class ResolvedRead(BaseModel):
    """One value and where it comes from."""

    value: Any
    origin: Origin
    reason: str | None
    automatic: Any
    """What the value would be if the user had not set it; the value itself for all others."""


class AlternativeRead(BaseModel):
    """Another plan for the same job, and its price."""

    kind: Knob
    changes: dict[str, Any]
    """Options and their other values: sent with the same request they give this plan."""
    peak_bytes: int
    peak_bytes_upper: int
    seconds_p50: float
    seconds_p90: float
    verdict: Verdict
    message: str


class PlanRead(BaseModel):
    """Memory and time before anything is spent."""

    model_id: str
    device_id: str
    device_name: str
    fits: bool
    verdict: Verdict
    peak_bytes: int
    peak_bytes_upper: int
    available_bytes: int
    parts: MemoryParts
    seconds_p50: float
    seconds_p90: float
    comparison_seconds: float
    """How long the comparison with the model before will take at most, after those seconds; 0 where there is none."""
    steps: int
    train_rows: int
    heldout_rows: int
    effective_batch_size: int
    resolved: dict[str, ResolvedRead]
    reasons: list[NoticeRead]
    warnings: list[NoticeRead]
    alternatives: list[AlternativeRead]
    objective: Objective
    memory_method: MemoryMethod
    """`traced`: one training step was followed; `closed_form`: formulas; `rough`: a model of unknown sizes."""
    time_method: TimeMethod
    """`calibrated`: this machine was measured; `table`: a known device; `guessed`: neither."""
    bound: Bound
    """What `peak_bytes_upper` rests on."""
    cut_rows_share: float
    cut_tokens_share: float
    reserved_bytes: int | None
    """What the CUDA allocator will have reserved at the peak; null on the processor, and while it was not replayed: ask
    again some seconds later."""
    reserved_method: ReservedMethod | None
    """`replayed_expandable`: with segments that expand, as trainings run; not yet checked on a card."""


class JobRecordRead(BaseModel):
    """One finished job: predicted and measured."""

    job_id: str
    name: str
    model_id: str
    device_id: str
    finished_at: str
    planned_peak_bytes: int
    measured_peak_bytes: int
    planned_seconds: float
    measured_seconds: float | None
    """Null when the job took several attempts."""


class RecordSummary(BaseModel):
    """How wrong the planner was on this machine, in percent of what was measured; null before the first job."""

    count: int
    peak_mean_abs_pct: float | None
    peak_worst_under_pct: float | None
    """The largest share by which a job needed more than its prediction; 0 when none did."""
    seconds_mean_abs_pct: float | None


class PlanRecordRead(BaseModel):
    """The planner's own record, newest job first."""

    jobs: list[JobRecordRead]
    summary: RecordSummary
