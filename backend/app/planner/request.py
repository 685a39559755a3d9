"""Everything a plan depends on."""

from dataclasses import dataclass, field

from app.contracts.calibration import Calibration
from app.contracts.hardware import Device
from app.contracts.plan import ModelShape, Resolved
from app.contracts.trace import TraceProfile
from app.planner.bound import Residuals, read_shipped
from app.planner.correction import FinishedTime
from app.planner.run_shape import RowLengths


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """One question to the planner. Equal requests get equal plans."""

    model_id: str
    model_name: str
    shape: ModelShape | None
    """None when neither the table nor a config.json knows the model."""
    vram_required_gb: float
    device: Device
    available_bytes: int
    values: dict[str, Resolved]
    """Every option of FinetuningOptions; value None = automatic, the planner's to choose."""
    lengths: RowLengths
    train_rows: int
    heldout_rows: int
    nf4_usable: bool = False
    """Whether the library that computes with 4-bit weights is installed."""
    profiles: tuple[TraceProfile, ...] = ()
    """Traced steps of this model; a variant without one is planned by the closed form."""
    calibration: Calibration | None = None
    """What was measured on this device; None = the table of devices."""
    residuals: Residuals = field(default_factory=read_shipped)
    """Measured over predicted peaks of past runs, for the bound."""
    finished: tuple[FinishedTime, ...] = ()
    """Measured beside predicted seconds of this machine's finished jobs, oldest first."""
