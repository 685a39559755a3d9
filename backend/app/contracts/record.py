"""What a job was predicted to take and what it took: one line of `<data folder>/planner/records.jsonl`."""

from app.contracts.frozen import Frozen
from app.contracts.hardware import DeviceKind
from app.contracts.options import Dtype, Quantization
from app.contracts.plan import MemoryMethod, TimeMethod


class JobRecord(Frozen):
    """One job that succeeded on this machine. It outlives the job: the planner's bound is derived from these lines."""

    job_id: str
    name: str
    model_id: str
    device_id: str
    device_kind: DeviceKind
    dtype: Dtype
    quantization: Quantization
    gradient_checkpointing: bool
    memory_method: MemoryMethod
    time_method: TimeMethod
    finished_at: str
    """UTC, ISO 8601."""
    planned_peak_bytes: int
    """Of what is measured: on a graphics card without the CUDA context, which the allocator does not count."""
    measured_peak_bytes: int
    """Resident peak of the process, or the peak of what the allocator had handed out on the card."""
    measured_reserved_bytes: int | None = None
    """What the allocator had taken of a graphics card at most, holes counted; None on the processor."""
    planned_seconds: float
    """P50."""
    time_factor: float = 1.0
    """The part of it that came from earlier jobs of this machine (`TimeBasis.factor`)."""
    step_factor: float | None = None
    """Of the calibration that it was planned with (`TimeBasis.step_factor`)."""
    device_name: str = ""
    """Empty in records of versions that did not note it."""
    planned_seconds_p90: float
    measured_seconds: float | None
    """From the start of the trainer's process to its end without downloads and comparison; None after several attempts."""
