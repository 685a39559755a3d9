"""From a device to its paces: measured ones after a calibration, else those of the table of devices.

Without a calibration a card's paces are the table's rates times the shares of them that training reached on a T4
(bench/planner/ground_truth.py judges them, leave-one-model-out), and a processor's those of the machine that this
was written on. With one, the paces are fitted to the engine's own micro-batches on this very device, in each precision,
starting from its measured products, copies and launches.
"""

import math
from dataclasses import dataclass, field, replace
from functools import lru_cache

from app.contracts.calibration import Calibration, MeasuredStep, MeasuredWork
from app.contracts.hardware import DeviceKind
from app.contracts.options import Dtype
from app.contracts.plan import ModelShape
from app.planner.gpus import Rates
from app.planner.pace import Pace, Sample, fit_pace
from app.planner.run_shape import RunShape
from app.planner.shapes import count_adapter_params
from app.planner.traced import Work
from app.planner.work import count_forward_work, count_step_work


@dataclass(frozen=True, slots=True)
class Shares:
    """What training reaches of a device's peaks, and the seconds of one kernel."""

    half: float
    full: float
    attention: float
    """Speed of attention's products against other products; 1 = the same."""
    elementwise: float
    gemm: float
    unpacked: float
    launch_seconds: float


GPU_SHARES = Shares(
    half=0.43, full=0.62, attention=1.0, elementwise=0.67, gemm=0.76, unpacked=0.75, launch_seconds=11.2e-6
)  # fmt: skip
"""Fitted on the 47 different steps of a T4 in shared/data/t4_ground_truth (fitcheck-llm, MIT), trust 1: mean error 8.8 %,
leave-one-model-out 9.6 %. bench/planner/ground_truth.py prints the latter; a test repeats the fit."""
CPU_SHARES = Shares(half=0.60, full=0.90, attention=0.3, elementwise=0.55, gemm=2.0, unpacked=1.0, launch_seconds=20e-6)
"""From one calibration of two cores with AVX-512 BF16 against the rates in planner/gpus.py."""
TRUST = 0.1
"""Samples' worth of the guess against the measured steps of a calibration."""
OTHER_BLOCKS_WEIGHT = 0.3
"""Weight of measured steps whose blocks are of the other kind (GPT-2's against Llama's) than the model's."""


@dataclass(frozen=True, slots=True)
class DevicePace:
    """Everything about time that is the device's own."""

    closed: Pace
    """For work in closed form."""
    traced: Pace
    """For traced work: the two count element-wise traffic and kernels differently."""
    start_seconds: float
    load_fixed_seconds: float
    load_bytes_per_second: float
    save_seconds: float
    optimizer_bytes_per_second: float
    """Bytes of adapter parameters, 4 each."""
    spread: float
    """P90 over P50."""
    alone: float = 1.0
    """Seconds of a micro-batch with all cores to itself over those beside others (training/lanes.py)."""


GAIN_OF_LANE = 0.35
"""How much quicker one micro-batch is per core that it has more. Measured on two cores: 303 tokens/s on
both against 225 on each."""
START_SECONDS: dict[DeviceKind, float] = {"cuda": 12.0, "cpu": 5.0}
"""Interpreter, libraries, and on a card its context, where nothing was measured."""
LOAD_BYTES_PER_SECOND = 0.8e9
SAVE_SECONDS = 1.0
OPTIMIZER_TRAFFIC = 10.0
"""Bytes that clipping and AdamW move per byte of the adapter: gradient, two moments, parameter, each read and written."""
SPREAD_CALIBRATED = 1.25
"""P90 over P50 of a run on a calibrated device: the planner's own error and the machine's swings together."""
SPREAD_KNOWN = 1.35
"""Of a card in the table: 90 % of the T4's steps are below 1.2 times their prediction from other models' steps; the rest
is for shares that differ between cards."""
SPREAD_GUESSED = 2.0


def find_device_pace(shape: ModelShape, run: RunShape, rates: Rates, calibration: Calibration | None) -> DevicePace:
    """Return the paces for this kind of model in this run's precision."""
    if calibration is not None and calibration.device_kind == run.device:
        older = shape.family == "gpt2"
        key = _Key(calibration.device_name, calibration.measured_at, run.dtype, older, False, calibration)
        return DevicePace(
            closed=_fit(key),
            traced=_fit(replace(key, traced=True)),
            start_seconds=calibration.start_seconds,
            load_fixed_seconds=calibration.load_fixed_seconds,
            load_bytes_per_second=calibration.load_bytes_per_second,
            save_seconds=calibration.save_seconds,
            optimizer_bytes_per_second=calibration.optimizer_bytes_per_second,
            spread=max(SPREAD_CALIBRATED, calibration.noise),
            alone=calibration.alone,
        )
    pace = derive_pace(rates, CPU_SHARES if run.device == "cpu" else GPU_SHARES)
    alone = 1 / (1 + GAIN_OF_LANE * (run.lanes - 1))
    # The table's paces are those of all cores together.
    pace = Pace(*(value / alone for value in pace.values))
    return DevicePace(
        closed=pace,
        traced=pace,
        start_seconds=START_SECONDS[run.device],
        load_fixed_seconds=0.5,
        load_bytes_per_second=LOAD_BYTES_PER_SECOND,
        save_seconds=SAVE_SECONDS,
        optimizer_bytes_per_second=rates.bandwidth_gb * 1e9 / OPTIMIZER_TRAFFIC,
        spread=SPREAD_KNOWN if rates.known and run.device == "cuda" else SPREAD_GUESSED,
        alone=alone,
    )


def derive_pace(rates: Rates, shares: Shares) -> Pace:
    """Return the paces of a device of the table."""
    half, full = 1e-12 / (rates.half_tflops * shares.half), 1e-12 / (rates.full_tflops * shares.full)
    traffic = 1e-9 / rates.bandwidth_gb
    return Pace(
        flops_half=half,
        flops_full=full,
        flops_attention=max(0.0, 1 / shares.attention - 1) * full,
        bytes_elementwise=traffic / shares.elementwise,
        bytes_gemm=traffic / shares.gemm,
        bytes_unpacked=traffic / shares.unpacked,
        launches=shares.launch_seconds,
    )


@dataclass(frozen=True)
class _Key:
    """What a fit depends on; a calibration is known by its device and time."""

    device_name: str
    measured_at: str
    dtype: Dtype
    older: bool
    """Whether the model has the blocks of GPT-2: norms, activations and biases that no fused kernel of ours covers."""
    traced: bool
    calibration: Calibration = field(compare=False)


@lru_cache(maxsize=32)
def _fit(key: _Key) -> Pace:
    calibration = key.calibration
    half = key.dtype != "float32"
    steps = [step for step in calibration.steps if (step.dtype != "float32") == half]
    # A processor without 16-bit products computes them at best as it does 32 bits.
    steps = steps or calibration.steps
    samples = [
        replace(sample, weight=1.0 if (step.shape.family == "gpt2") == key.older else OTHER_BLOCKS_WEIGHT)
        for step in steps
        for sample in list_samples(step, calibration.device_kind, traced=key.traced, fused_attention=calibration.fused_attention)
    ]
    guess = guess_pace(calibration)
    if half and calibration.fused_attention:
        # One kernel, whose products are as quick as those elsewhere.
        guess = replace(guess, flops_attention=0.0)
    return fit_pace(samples, guess, trust=TRUST)


def guess_pace(calibration: Calibration) -> Pace:
    """Return the paces that raw speeds promise: where the fit to whole steps begins."""
    full = 1e-9 / calibration.full_gflops
    half = 1e-9 / calibration.half_gflops if calibration.half_gflops else full
    traffic = 1e-9 / calibration.bandwidth_gb
    on_cpu = calibration.device_kind == "cpu"
    return Pace(
        flops_half=half,
        flops_full=full,
        flops_attention=full if on_cpu else half / 2,
        bytes_elementwise=traffic,
        # On a processor small matrices stay in its caches.
        bytes_gemm=traffic / 4 if on_cpu else traffic,
        # Not measured: unpacking moves bytes, at the share of the bandwidth that it reaches on a T4.
        bytes_unpacked=traffic / GPU_SHARES.unpacked,
        launches=2 * calibration.launch_seconds,
    )


def list_samples(step: MeasuredStep, device: DeviceKind, *, traced: bool, fused_attention: bool = False) -> list[Sample]:
    """Return a measured step, and its forward pass if that was timed, with their work as it was counted or in closed form."""
    labels = step.micro_batch * step.length * step.trained_share
    run = RunShape(
        device=device,
        micro_batch=step.micro_batch,
        length=step.length,
        dtype=step.dtype,
        quantization="none",
        adapter_params=count_adapter_params(step.shape, step.rank, step.target_modules),
        rank=step.rank,
        checkpointing=step.checkpointing,
        fused_attention=fused_attention,
    )
    counted = _read_work(step.work) if traced else count_step_work(step.shape, run).at(run.micro_batch, run.length, labels)
    found = [Sample(counted, step.seconds)]
    if step.forward_seconds is not None and step.forward_work is not None:
        terms = count_forward_work(step.shape, run)
        counted = _read_work(step.forward_work) if traced else terms.at(run.micro_batch, run.length, labels)
        found.append(Sample(counted, step.forward_seconds))
    return found


def _read_work(work: MeasuredWork) -> Work:
    return Work(**work.model_dump())


def complete(calibration: Calibration, rates: Rates) -> Calibration:
    """Return the calibration with `step_factor`: how its steps compare with what the table of devices predicts."""
    pace = derive_pace(rates, CPU_SHARES if calibration.device_kind == "cpu" else GPU_SHARES)
    logs = [math.log(step.seconds / pace.seconds(_read_work(step.work))) for step in calibration.steps]
    factor = math.exp(sum(logs) / len(logs)) if logs else None
    return calibration.model_copy(update={"step_factor": factor})
