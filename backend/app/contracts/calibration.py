"""How fast one device of this machine really is, as a measurement of about half a minute found it.

`python -m app.training.calibration --device cpu` measures in a process of its own and prints one `Calibration` as a line
of JSON. It is kept in `<data folder>/planner/calibration.json` (`Calibrations`) and read by planner/calibrated.py.
A calibration counts for one device, driver and build of torch: `Calibration.counts_for`.
"""

import importlib.metadata

from app.contracts.frozen import Frozen
from app.contracts.hardware import Device, DeviceKind
from app.contracts.options import Dtype
from app.contracts.plan import ModelShape

SCHEMA = 5
"""Raised whenever what is measured changes its meaning: older files are then measured anew."""


class ProductRate(Frozen):
    """Speed of one matrix product of a size that models have."""

    dtype: Dtype
    rows: int
    inputs: int
    outputs: int
    gflops: float
    """1e9 operations per second; a product is 2 x rows x inputs x outputs operations."""


class MeasuredWork(Frozen):
    """What one pass asked of the device, counted operation by operation while it ran (planner/trace/costs.py)."""

    flops_half: float
    flops_full: float
    flops_attention: float
    """The part of the two above that attention does."""
    bytes_elementwise: float
    bytes_gemm: float
    bytes_unpacked: float
    launches: float


class MeasuredStep(Frozen):
    """One micro-batch, forward and backward, through the engine's own step: what was computed and how long it took."""

    shape: ModelShape
    rank: int
    target_modules: list[str]
    dtype: Dtype
    micro_batch: int
    length: int
    """Tokens of each row; no padding."""
    trained_share: float
    """Share of the tokens whose loss counts."""
    checkpointing: bool
    seconds: float
    """Beside as many others of its kind as the engine computes at the same time. At the machine's usual speed during the
    measurement: median over the rounds (training/calibration/estimate.py)."""
    work: MeasuredWork
    forward_seconds: float | None
    """The same rows without gradients, as an evaluation computes them; median; None where it was not timed."""
    forward_work: MeasuredWork | None


class Calibration(Frozen):
    """One device, measured."""

    schema_version: int
    device_kind: DeviceKind
    device_id: str
    device_name: str
    driver_version: str | None
    """NVIDIA's driver; None for the processor."""
    torch_version: str
    threads: int
    """Threads that the engine computes with."""
    lanes: int
    """Micro-batches that it computes at the same time; 1 on a card."""
    alone: float
    """Seconds of a micro-batch with all threads to itself over those beside others; 1.0 with one lane."""
    fused_attention: bool
    """Whether its attention was one kernel (training/attention.py)."""
    measured_at: str
    """UTC, ISO 8601."""
    seconds: float
    """How long the whole measurement took, the start of its process included."""
    half_gflops: float | None
    """Matrix products in the device's 16-bit type (bfloat16, else float16), median over the sizes; None where the engine
    would not compute in 16 bits."""
    full_gflops: float
    """Matrix products in 32 bits."""
    bandwidth_gb: float
    """Memory traffic of a copy, read plus written, 1e9 bytes per second."""
    launch_seconds: float
    """One small operation through autograd's front end, forward only."""
    products: list[ProductRate]
    steps: list[MeasuredStep]
    start_seconds: float
    """From the start of the process until torch and transformers were imported."""
    load_bytes_per_second: float
    """Reading a model folder into the device's memory as the engine does it, files in the system's cache."""
    load_fixed_seconds: float
    """What loading takes beside its bytes: building the modules, reading the configuration."""
    save_seconds: float
    """Writing one small adapter durably."""
    optimizer_bytes_per_second: float
    """Bytes of adapter parameters (4 each) that clipping and AdamW go through per second."""
    context_bytes: int | None
    """Memory of the CUDA context and its libraries outside the allocator; None for the processor."""
    noise: float
    """How far single rounds lie above their median: the 90th percentile of the ratio, 1.0 on a silent machine."""
    unrest: float
    """How far a fixed product, timed between all others, lies above its median: the 90th percentile of the ratio."""
    others_share: float
    """Share of the processor that other programs, or other machines of the same host, used meanwhile, 0..1."""
    series: int
    """1, or 2 when the machine was restless the first time."""
    restless: bool
    """Whether it was still restless at last: predicted times are less certain then."""
    step_factor: float | None = None
    """Measured seconds of the steps over those that the table of devices predicts, geometric mean: for people to read.
    (`planner.calibrated.complete`.)"""

    def counts_for(self, device: Device, driver_version: str | None) -> bool:
        """Return whether this measurement still describes `device` of this machine."""
        return (
            self.schema_version == SCHEMA
            and self.device_kind == device.kind
            and self.device_name == device.name
            and (device.kind == "cpu" or self.driver_version == driver_version)
            and self.torch_version == find_torch_version()
        )


class Calibrations(Frozen):
    """The file: the newest calibration of each device that was ever measured here."""

    calibrations: list[Calibration] = []

    def find(self, device: Device, driver_version: str | None) -> Calibration | None:
        """Return the newest calibration that counts for `device`."""
        found = [entry for entry in self.calibrations if entry.counts_for(device, driver_version)]
        return max(found, key=lambda entry: entry.measured_at, default=None)

    def replace(self, new: Calibration) -> "Calibrations":
        """Return the file's content with `new` in place of older ones of the same device."""
        kept = [
            entry for entry in self.calibrations if (entry.device_kind, entry.device_name) != (new.device_kind, new.device_name)
        ]
        return Calibrations(calibrations=[*kept, new])


def find_torch_version() -> str:
    """Return the version of the installed torch without importing it; empty when there is none."""
    try:
        return importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return ""
