"""When a job has succeeded: what it was predicted to take beside what it took."""

from datetime import datetime

from app.contracts.events import JobEvent, PhaseStarted, StatusChanged
from app.contracts.job import TrainingJob
from app.contracts.record import JobRecord
from app.contracts.status import JobStatus
from app.storage.job_dir import JobDir


def make_record(job_dir: JobDir) -> JobRecord | None:
    """Return the record of a job that has succeeded; None for one that left no report.

    None also for DPO and KTO: of their rows only the longer answer's length is known, so their plans are rougher.
    """
    report = job_dir.find_report()
    if report is None:
        return None
    job = job_dir.read_job()
    if job.method in ("dpo", "kto"):
        return None
    events = list(job_dir.read_events())
    plan = job.plan
    return JobRecord(
        job_id=job.job_id,
        name=job.name,
        model_id=job.model.model_id,
        device_id=job.device_id,
        device_kind="cpu" if job.device_id == "cpu" else "cuda",
        dtype=job.dtype,
        quantization=job.quantization,
        gradient_checkpointing=job.optimization.gradient_checkpointing,
        memory_method=plan.memory_method,
        time_method=plan.time_method,
        finished_at=events[-1].at,
        planned_peak_bytes=count_planned_bytes(job),
        measured_peak_bytes=report.peak_bytes,
        measured_reserved_bytes=report.peak_reserved_bytes,
        planned_seconds=plan.seconds_p50,
        time_factor=plan.time_basis.factor,
        step_factor=plan.time_basis.step_factor,
        device_name=plan.time_basis.device_name,
        planned_seconds_p90=plan.seconds_p90,
        measured_seconds=measure_seconds(events),
    )


def count_planned_bytes(job: TrainingJob) -> int:
    """Return the predicted peak of what the report measures: on a card the context lies outside the allocator."""
    context = 0 if job.device_id == "cpu" else job.plan.parts.context
    return job.plan.peak_bytes - context


def measure_seconds(events: list[JobEvent]) -> float | None:
    """Return the seconds from the trainer's start to its end without downloads and comparison; None after several attempts."""
    starts = [event for event in events if isinstance(event, StatusChanged) and event.status is JobStatus.STARTING]
    if len(starts) != 1:
        return None
    begun, ended = _read_time(starts[0].at), _read_time(events[-1].at)
    phases = [(event.phase, _read_time(event.at)) for event in events if isinstance(event, PhaseStarted)]
    left_out = 0.0
    for index, (phase, at) in enumerate(phases):
        if phase in ("downloading", "comparing"):  # neither is planned
            left_out += (phases[index + 1][1] if index + 1 < len(phases) else ended) - at
    return max(0.0, ended - begun - left_out)


def _read_time(text: str) -> float:
    """Return an event's time in seconds since the epoch."""
    return datetime.fromisoformat(text).timestamp()
