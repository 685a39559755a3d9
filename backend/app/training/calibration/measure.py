"""One device, from its name to a `Calibration`."""

import logging
import tempfile
import time
from pathlib import Path

import psutil

from app.contracts.calibration import SCHEMA, Calibration, find_torch_version
from app.contracts.hardware import Device
from app.contracts.options import Dtype
from app.core.errors import NotFound
from app.hardware.probe import probe
from app.planner.calibrated import complete
from app.planner.gpus import rate_device
from app.planner.micro_batches import count_lanes
from app.storage.job_dir import utc_now
from app.training.calibration.estimate import choose_series, measure_noise
from app.training.calibration.variants import LARGE_BYTES, Size

SECONDS = 20.0
"""How long the whole measurement may take on a calm machine, where the device allows; a restless one is measured twice."""
PAUSE_SECONDS = 2.0
"""Before a restless machine is measured again."""

log = logging.getLogger("app.training.calibration")


def measure(device_id: str, seconds: float = SECONDS, *, repeat: bool = True) -> tuple[Calibration, dict[str, list[list[float]]]]:
    """Measure the device, once more if it was restless; return the result and the single times by piece.

    Each of these is a series, the seconds, and the reference's around them. Raise NotFound for a device that is not here.
    """
    device = _find_device(device_id)
    import torch

    from app.training import engine  # noqa: F401  what a job imports before it can begin
    from app.training.calibration.context import measure_context
    from app.training.calibration.raw import SMALL_OPERATIONS
    from app.training.calibration.rounds import take_series
    from app.training.calibration.workload import find_rate, prepare_workload, read_times
    from app.training.lanes import Lanes
    from app.training.loading import find_device, use_physical_cores

    start_seconds = _count_seconds()
    threads = use_physical_cores()
    lanes = Lanes(count_lanes(threads) if device.kind == "cpu" else 1, threads)
    torch.manual_seed(0)
    place = find_device(device_id)
    context = measure_context(place)
    size: Size = "large" if device.kind == "cuda" and device.memory_free_bytes >= LARGE_BYTES else "small"
    half = choose_half(device)
    dtypes: list[Dtype] = [half, "float32"] if half else ["float32"]
    with tempfile.TemporaryDirectory(prefix="affinage-calibration-") as folder:
        work = prepare_workload(Path(folder), size, device.kind, place, dtypes, lanes)
        log.info("prepared after %.1f s", _count_seconds())
        pieces = work.list_pieces()
        begun = time.perf_counter()
        series = [take_series(0, pieces, work.reference, place, until=begun + seconds - _count_seconds())]
        if series[0].restless and repeat:
            log.info("the machine is restless: measured once more")
            took = time.perf_counter() - begun
            time.sleep(PAUSE_SECONDS)
            series.append(take_series(1, pieces, work.reference, place, until=time.perf_counter() + took))
    counted = choose_series(series)
    numbers = {one.number for one in counted}
    read = read_times(pieces, counted)
    products = work.rate_products(read)
    measured = Calibration(
        schema_version=SCHEMA,
        device_kind=device.kind,
        device_id=device.id,
        device_name=device.name,
        driver_version=probe(Path.cwd()).driver_version if device.kind == "cuda" else None,
        torch_version=find_torch_version(),
        threads=threads,
        lanes=lanes.count,
        fused_attention=device.fused_attention,
        alone=work.measure_alone(read),
        measured_at=utc_now(),
        seconds=_count_seconds(),
        half_gflops=find_rate(products, half) if half else None,
        full_gflops=find_rate(products, "float32"),
        bandwidth_gb=work.measure_bandwidth(read),
        launch_seconds=read(work.launch) / SMALL_OPERATIONS,
        products=products,
        steps=[bench.describe(read(bench.step), read(bench.forward) if bench.forward else None) for bench in work.benches],
        start_seconds=start_seconds,
        load_bytes_per_second=work.large_bytes / read(work.load_large),
        load_fixed_seconds=read(work.load_small),
        save_seconds=read(work.save),
        optimizer_bytes_per_second=work.update_bytes / read(work.update),
        context_bytes=context,
        noise=measure_noise(
            [[timing.seconds for timing in bench.step.times if timing.series in numbers] for bench in work.benches]
        ),
        unrest=max(one.unrest for one in counted),
        others_share=max(one.others_share for one in counted),
        series=len(series),
        restless=any(one.restless for one in counted),
    )
    times = {piece.name: [[timing.series, timing.seconds, timing.reference] for timing in piece.times] for piece in pieces}
    return complete(measured, rate_device(device)), times


def choose_half(device: Device) -> Dtype | None:
    """Return the 16-bit type that the planner would choose on this device, None where it would stay with 32 bits."""
    if device.bf16:
        return "bfloat16"
    if device.kind == "cuda" and (device.compute_capability or (0, 0)) >= (7, 0):
        return "float16"
    return None


def _count_seconds() -> float:
    """Return the seconds since this process started."""
    return time.time() - psutil.Process().create_time()


def _find_device(device_id: str) -> Device:
    devices = probe(Path.cwd()).devices
    for device in devices:
        if device.id == device_id:
            return device
    raise NotFound("device", device_id=device_id, available=", ".join(device.id for device in devices))
