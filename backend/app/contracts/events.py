"""What happens to a job, in order. One JSON line each in `events.jsonl`; `seq` rises by 1 from 1."""

from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from app.contracts.frozen import Frozen
from app.contracts.status import JobStatus

Phase = Literal["downloading", "loading", "tokenising", "evaluating", "rehearsing", "training", "saving", "comparing"]


class Event(Frozen):
    """What every event carries. `seq` and `at` are filled in by the event log."""

    v: Literal[1] = 1
    seq: int = 0
    at: str = ""
    """UTC, ISO 8601."""


class StatusChanged(Event):
    """The job moved to another state (all but failure, which is JobFailed)."""

    kind: Literal["status_changed"] = "status_changed"
    status: JobStatus


class JobFailed(Event):
    """The job ended; `code` is one of core/errors.py, `key` and `params` give the sentences."""

    kind: Literal["job_failed"] = "job_failed"
    code: str
    key: str
    params: dict[str, Any] = {}
    evidence: str = ""
    """Last lines of the traceback or of the log, without paths of the installation."""


class PhaseStarted(Event):
    """The trainer begins a stage of its work."""

    kind: Literal["phase_started"] = "phase_started"
    phase: Phase


class DownloadProgressed(Event):
    """Bytes of the model's files on this machine so far."""

    kind: Literal["download_progressed"] = "download_progressed"
    done_bytes: int
    total_bytes: int


class StepLogged(Event):
    """One optimizer step."""

    kind: Literal["step_logged"] = "step_logged"
    step: int
    total_steps: int
    epoch: float
    loss: float
    """Mean cross-entropy per trained token in nats; for DPO and KTO the mean of their own loss."""
    learning_rate: float
    grad_norm: float
    tokens: int
    """Tokens processed since the start of the job."""
    tokens_per_second: float
    peak_bytes: int
    """Peak memory so far: GPU allocated peak, or resident peak of the process."""
    step_seconds: float
    eta_seconds: float
    measures: dict[str, float] = {}
    """Further numbers of the method by name: `accuracy`, `reward_margin`, ..."""


class EvalLogged(Event):
    """Loss on the held-out rows."""

    kind: Literal["eval_logged"] = "eval_logged"
    step: int
    epoch: float
    loss: float
    rows: int
    tokens: int
    measures: dict[str, float] = {}


class CheckpointSaved(Event):
    """A complete checkpoint exists."""

    kind: Literal["checkpoint_saved"] = "checkpoint_saved"
    step: int
    name: str
    size_bytes: int


class Noted(Event):
    """A decision or a warning with its reason (message key and parameters)."""

    kind: Literal["noted"] = "noted"
    level: Literal["info", "warning"]
    key: str
    params: dict[str, Any] = {}


class PriorityChanged(Event):
    """The job was moved in the queue."""

    kind: Literal["priority_changed"] = "priority_changed"
    priority: int
    """Higher starts earlier; 0 when nobody chose."""


JobEvent = Annotated[
    StatusChanged
    | JobFailed
    | PhaseStarted
    | DownloadProgressed
    | StepLogged
    | EvalLogged
    | CheckpointSaved
    | Noted
    | PriorityChanged,
    Field(discriminator="kind"),
]
job_event: TypeAdapter[JobEvent] = TypeAdapter(JobEvent)
