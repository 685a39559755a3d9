"""`peak.py`: print how fast this machine multiplies matrices in bfloat16 right now, in GFLOP/s: the best of some sizes.

Sizes from those of the work itself to large ones: (rows, in, out).
"""

import sys
import time

import torch

SIZES = ((1024, 1024, 1024), (1024, 576, 3072), (2048, 2048, 2048), (1024, 4096, 4096), (4096, 4096, 4096))
SECONDS = 1.0
"""Of each size."""


def measure(rows: int, inner: int, outer: int) -> float:
    """Return GFLOP/s of (rows, inner) x (inner, outer): the median product of SECONDS."""
    a, b = torch.randn(rows, inner).bfloat16(), torch.randn(outer, inner).bfloat16()
    out = torch.empty(rows, outer, dtype=torch.bfloat16)
    seconds: list[float] = []
    end = time.perf_counter() + SECONDS
    while time.perf_counter() < end or len(seconds) < 5:
        started = time.perf_counter()
        torch.mm(a, b.t(), out=out)
        seconds.append(time.perf_counter() - started)
    return 2 * rows * inner * outer / sorted(seconds)[len(seconds) // 2] / 1e9


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else torch.get_num_threads())
    print(max(measure(*size) for size in SIZES))
