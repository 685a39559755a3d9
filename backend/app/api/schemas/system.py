"""Health, hardware and downloads."""

from typing import Literal

from pydantic import BaseModel

from app.api.schemas.errors import ErrorContent
from app.api.schemas.plans import NoticeRead
from app.contracts.hardware import Hardware


class Health(BaseModel):
    """Liveness and versions."""

    status: str
    version: str
    python: str
    sqlite: str
    engine: str | None
    """Version of torch, when the training extra is installed."""
    language: str


class CalibrationRead(BaseModel):
    """How fast one device really is, as a measurement of some seconds found it."""

    device_id: str
    device_name: str
    measured_at: str
    seconds: float
    """How long the measurement took."""
    half_gflops: float | None
    """Matrix products in 16 bits, 1e9 operations per second; null where the engine would not use 16 bits."""
    full_gflops: float
    bandwidth_gb: float
    """Memory traffic of a copy, 1e9 bytes per second."""
    step_factor: float | None
    """Measured seconds of real training steps over those that the table of devices predicts."""
    noise: float
    """How far single rounds lie above their median: 1.0 on a silent machine."""
    unrest: float
    """How far a fixed product, timed between all others, lies above its median: 1.0 on a silent machine."""
    others_share: float
    """Share of the processor that other programs used meanwhile, 0..1."""
    restless: bool
    """Whether the machine was still restless when it had been measured twice: times are less certain then."""
    notice: NoticeRead | None
    """What to say about a restless machine."""


class HardwareRead(Hardware):
    """The machine; the first device is the one that jobs use. `unused_reason` is a sentence in the reader's language."""

    calibration: CalibrationRead | None
    """Of the first device; null until POST /api/hardware/calibrate has measured it."""


class DownloadRead(BaseModel):
    """How far the weights of a model have come."""

    model_id: str
    state: Literal["idle", "running", "done", "failed"]
    """`idle`: not on this machine and nothing under way; `done`: ready to use."""
    done_bytes: int
    total_bytes: int
    """0 until the size is known."""
    error: ErrorContent | None
