"""Raw speed of a device: matrix products of sizes that models have, a copy, a small operation."""

import statistics
import time
from collections.abc import Callable

import torch

from app.contracts.calibration import ProductRate
from app.contracts.hardware import DeviceKind
from app.contracts.options import Dtype

# rows, inputs, outputs: the tokens of a small and a large micro-batch through the layers of small and of large models.
PRODUCT_SIZES: dict[DeviceKind, tuple[tuple[int, int, int], ...]] = {
    "cpu": ((128, 768, 3072), (512, 576, 1536), (512, 2048, 2048)),
    "cuda": ((512, 1024, 4096), (2048, 2048, 8192), (4096, 4096, 4096)),
}
COPY_BYTES: dict[DeviceKind, int] = {"cpu": 96 << 20, "cuda": 512 << 20}
"""Far beyond the caches, small against any memory."""
SMALL_OPERATIONS = 1000


def synchronise(device: torch.device) -> None:
    """Wait until the device has done all it was asked for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def time_rounds(device: torch.device, work: Callable[[], object], *, rounds: int, least_seconds: float = 0.01) -> float:
    """Return the median seconds of one call of `work`, each round long enough to be timed, after one call to warm up."""
    work()
    synchronise(device)
    started = time.perf_counter()
    work()
    synchronise(device)
    calls = max(1, min(1000, round(least_seconds / max(1e-6, time.perf_counter() - started))))
    found = []
    for _ in range(rounds):
        started = time.perf_counter()
        for _ in range(calls):
            work()
        synchronise(device)
        found.append((time.perf_counter() - started) / calls)
    return statistics.median(found)


def measure_products(device: torch.device, kind: DeviceKind, dtype: Dtype, *, rounds: int = 5) -> list[ProductRate]:
    """Return the speed of products of PRODUCT_SIZES in this precision."""
    found = []
    for rows, inputs, outputs in PRODUCT_SIZES[kind]:
        left = torch.full((rows, inputs), 0.5, device=device, dtype=getattr(torch, dtype))
        right = torch.full((outputs, inputs), 0.5, device=device, dtype=getattr(torch, dtype))
        result = torch.empty((rows, outputs), device=device, dtype=left.dtype)

        def multiply(a: torch.Tensor = left, b: torch.Tensor = right, c: torch.Tensor = result) -> None:
            torch.mm(a, b.t(), out=c)

        seconds = time_rounds(device, multiply, rounds=rounds)
        gflops = 2e-9 * rows * inputs * outputs / seconds
        found.append(ProductRate(dtype=dtype, rows=rows, inputs=inputs, outputs=outputs, gflops=gflops))
    return found


def measure_bandwidth(device: torch.device, kind: DeviceKind, *, rounds: int = 5) -> float:
    """Return the memory traffic of a copy, read plus written, in 1e9 bytes per second."""
    source = torch.zeros(COPY_BYTES[kind], dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2e-9 * COPY_BYTES[kind] / time_rounds(device, lambda: target.copy_(source), rounds=rounds)


def measure_launch(device: torch.device, *, rounds: int = 5) -> float:
    """Return the seconds of one operation on a few numbers that autograd records."""
    weight = torch.ones(16, device=device, requires_grad=True)
    x = torch.ones(16, device=device)

    def launch() -> None:
        for _ in range(SMALL_OPERATIONS):
            weight * x

    return time_rounds(device, launch, rounds=rounds) / SMALL_OPERATIONS
