"""Find out what this machine can train on, in milliseconds and without torch.

Graphics cards come from NVML (the driver's own library), everything else from the kernel's files. A container's memory
and processor limits count: what cgroups deny does not exist for a job.
"""

import shutil
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import psutil

from app.contracts.hardware import Device, Hardware
from app.hardware.cgroups import find_memory_limit, find_processor_limit
from app.hardware.cores import list_usable_cores
from app.hardware.nvidia import Cards, find_cards

BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16"})
"""Processor flags that make bfloat16 products native; without one, 16 bits are slower than 32."""
FUSED_ATTENTION_FLAGS = frozenset({"avx512f", "avx512bw", "avx512dq", "avx512vl"})
"""What native/attention.c needs."""
PCI_VENDORS = {"0x10de": "nvidia", "0x1002": "amd"}


def probe(data_dir: Path, *, proc: Path = Path("/proc"), sys: Path = Path("/sys")) -> Hardware:
    """Return the machine as it is now: memory and disk free are those of this moment.

    `proc` and `sys` are the kernel's file trees; tests hand in their own.
    """
    total, available = read_memory(proc, sys)
    read = read_processor(proc, sys)
    processor = Device(
        id="cpu",
        kind="cpu",
        name=read.name,
        memory_total_bytes=total,
        memory_free_bytes=available,
        bf16=read.bf16,
        fused_attention=read.fused_attention,
        cores=read.cores,
    )
    cards = find_cards()
    unused = explain_unused(cards, find_engine_build(), sys)
    usable = [] if unused else sorted(cards.devices, key=lambda card: -card.memory_total_bytes)
    return Hardware(
        devices=[*usable, processor],
        memory_total_bytes=total,
        memory_available_bytes=available,
        disk_free_bytes=find_free_disk(data_dir),
        cpu_name=read.name,
        driver_version=cards.driver_version,
        unused_reason=unused,
    )


def read_memory(proc: Path, sys: Path) -> tuple[int, int]:
    """Return (total, available) bytes that this process may use, the cgroup's limit counted."""
    try:
        fields = dict(line.split(":", 1) for line in (proc / "meminfo").read_text().splitlines() if ":" in line)
        total = int(fields["MemTotal"].split()[0]) * 1024
        available = int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        # No /proc (macOS, Windows) or a kernel older than 3.14.
        memory = psutil.virtual_memory()
        total, available = memory.total, memory.available
    limit = find_memory_limit(proc, sys)
    if limit is not None:
        total, available = min(total, limit.limit_bytes), min(available, limit.free_bytes)
    return total, max(0, available)


class Processor(NamedTuple):
    """What /proc/cpuinfo says, and how many physical cores this process may use."""

    name: str
    cores: int
    bf16: bool
    fused_attention: bool


def read_processor(proc: Path, sys: Path) -> Processor:
    """Return the processor.

    Hyper-threads add nothing to matrix products, so threads of one core count once; affinity and quota are honoured.
    """
    try:
        blocks = [_fields(block) for block in (proc / "cpuinfo").read_text().split("\n\n") if block.strip()]
    except OSError:
        blocks = []
    allowed = set(list_usable_cores())
    usable = [block for block in blocks if block.get("processor", "").isdigit() and int(block["processor"]) in allowed]
    cores = len({(block.get("physical id", "0"), block.get("core id", block["processor"])) for block in usable})
    if not cores:
        cores = min(psutil.cpu_count(logical=False) or 1, len(allowed))
    if (quota := find_processor_limit(proc, sys)) is not None:
        cores = min(cores, max(1, round(quota)))
    first = blocks[0] if blocks else {}
    name = first.get("model name") or first.get("Hardware") or "CPU"
    flags = frozenset((first.get("flags") or first.get("Features") or "").split())
    # ARM lists `bf16` among its features from ARMv8.6 on.
    return Processor(name, max(1, cores), bool(flags & BF16_FLAGS) or "bf16" in flags, flags >= FUSED_ATTENTION_FLAGS)


def _fields(block: str) -> dict[str, str]:
    pairs = (line.split(":", 1) for line in block.splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}


def find_engine_build() -> str | None:
    """Return torch's version, such as `2.13.0+cpu`, without importing it; None when it is not installed."""
    try:
        return metadata.version("torch")
    except metadata.PackageNotFoundError:
        return None


def explain_unused(cards: Cards, engine_build: str | None, sys: Path) -> str | None:
    """Return the message key that says why a graphics card that is present is not used, or None."""
    if cards.devices:
        if engine_build is None:
            return "gpu_unused.no_engine"
        return "gpu_unused.cpu_build" if engine_build.endswith("+cpu") else None
    if cards.hidden:
        return "gpu_unused.hidden"
    vendors = find_display_vendors(sys)
    if "nvidia" in vendors:
        return "gpu_unused.no_driver"
    return "gpu_unused.amd" if "amd" in vendors else None


def find_display_vendors(sys: Path) -> set[str]:
    """Return which makers' display or 3D controllers (PCI class 03) are in the machine."""
    found: set[str] = set()
    for device in (sys / "bus" / "pci" / "devices").glob("*"):
        try:
            if (device / "class").read_text().startswith("0x03"):
                found.add(PCI_VENDORS.get((device / "vendor").read_text().strip(), "other"))
        except OSError:
            continue
    return found


def find_free_disk(data_dir: Path) -> int:
    """Return free bytes on the disk of `data_dir`, which may not exist yet; 0 when nothing on its path can be read."""
    for folder in (data_dir.absolute(), *data_dir.absolute().parents):
        try:
            return shutil.disk_usage(folder).free
        except OSError:
            continue
    return 0
