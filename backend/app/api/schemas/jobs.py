"""What the job routes take and answer."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from app.api.schemas.plans import NoticeRead, PlanRead, StartFinetuningRequest
from app.contracts.status import JobStatus


class StartedRead(BaseModel):
    """Answer to a start."""

    job_id: str
    status: JobStatus
    plan: PlanRead
    warnings: list[NoticeRead]


class ErrorRead(BaseModel):
    """Why a job failed, in the reader's language."""

    code: str
    message: str
    hint: str
    evidence: str


class Progress(BaseModel):
    """Where a job stands; all None before the first step."""

    phase: str | None
    step: int
    total_steps: int
    fraction: float
    """0..1 over the optimizer steps."""
    epoch: float | None
    loss: float | None
    heldout_loss: float | None
    heldout_loss_before: float | None
    learning_rate: float | None
    tokens: int | None
    tokens_per_second: float | None
    peak_bytes: int | None
    eta_seconds: float | None
    download_done_bytes: int | None
    download_total_bytes: int | None


class JobRead(BaseModel):
    """A job in lists and on the dashboard."""

    job_id: str
    name: str
    status: JobStatus
    model_id: str
    model_name: str
    dataset_id: str
    dataset_name: str
    created_at: str
    started_at: str | None
    finished_at: str | None
    progress: Progress
    error: ErrorRead | None
    last_seq: int
    priority: int
    """Higher starts earlier; 0 when nobody chose. Among equals the oldest starts first."""
    can_chat: bool


class JobDetail(JobRead):
    """A job with everything that was resolved before it started."""

    plan: PlanRead
    commands: dict[str, str]
    """`config`, `cli`, `curl` and `python`: a file and lines that start the same job again."""
    request: StartFinetuningRequest
    """The body that starts it again."""
    notices: list[NoticeRead]
    adapter_path: str | None
    worked_seconds: float
    """How long its trainers worked, over the attempts that have ended: waiting and pauses do not count."""
    working_since: str | None
    """When the attempt that goes on began; None while nobody trains."""


class JobList(BaseModel):
    """Newest first."""

    jobs: list[JobRead]


class MetricPoints(BaseModel):
    """History of one number, at most `points` values, first and last kept."""

    name: str
    steps: list[int]
    values: list[float]


class PriorityRequest(BaseModel):
    """Where a job stands in the queue."""

    priority: Annotated[int, Field(ge=-1_000_000, le=1_000_000)] | Literal["next"]
    """A number (higher starts earlier; 0 when nobody chose), or `next`: before every job that waits now."""


class CheckpointRead(BaseModel):
    """One checkpoint of a job."""

    name: str
    step: int
    size_bytes: int
    whole: bool
    """False when a file is missing or changed since it was written: it is not used."""
    best: bool
    """The lowest loss on held-out rows of those that were measured."""
    kept_for: list[str]
    """Why it is never removed: `paused`, `exported`."""


class CheckpointList(BaseModel):
    """Newest first."""

    checkpoints: list[CheckpointRead]


class LogRead(BaseModel):
    """The end of the trainer's own log."""

    text: str
    truncated: bool
    """True when earlier lines were left out."""
