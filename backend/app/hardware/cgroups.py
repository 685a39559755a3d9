"""Limits that a container or a service manager sets, from control groups of version 2 or 1 (Linux only).

A process' group is named in `/proc/self/cgroup`. Every ancestor's limit holds as well, so all levels are read. In a
container the named path often does not exist below the mount point: then the mount point itself is the group.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

UNLIMITED_BYTES = 1 << 60
"""Version 1 writes a number near 2**63 for "no limit"."""


@dataclass(frozen=True, slots=True)
class MemoryLimit:
    """The tightest memory limit over all levels."""

    limit_bytes: int
    free_bytes: int
    """Limit minus use, where file pages that the kernel can drop do not count as used."""


def find_memory_limit(proc: Path, sys: Path) -> MemoryLimit | None:
    """Return the memory limit that applies to this process, or None where there is none."""
    found: MemoryLimit | None = None
    for folder in _levels(proc, sys, "memory"):
        limit = _number(folder / "memory.max") or _number(folder / "memory.limit_in_bytes")
        if limit is None or limit >= UNLIMITED_BYTES:
            continue
        used = _number(folder / "memory.current") or _number(folder / "memory.usage_in_bytes") or 0
        free = max(0, limit - used + _droppable(folder / "memory.stat"))
        if found is None or free < found.free_bytes:
            found = MemoryLimit(min(limit, found.limit_bytes if found else limit), min(free, limit))
    return found


def find_processor_limit(proc: Path, sys: Path) -> float | None:
    """Return how many processors' worth of time the process may use, or None where there is no quota."""
    found: float | None = None
    for folder in _levels(proc, sys, "cpu"):
        quota, period = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
        if quota is None:
            quota, period = _pair(folder / "cpu.max")
        if quota is None or not period or quota <= 0:
            continue
        found = min(found or quota / period, quota / period)
    return found


def _levels(proc: Path, sys: Path, controller: str) -> Iterator[Path]:
    """Yield the folders of this process' group and its ancestors, for both versions."""
    try:
        lines = (proc / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        parts = line.split(":", 2)
        if len(parts) != 3:
            continue
        controllers, group = parts[1].split(","), parts[2].strip("/")
        if controller in controllers:
            mount = sys / "fs" / "cgroup" / controller
            if not mount.is_dir() and len(controllers) > 1:
                mount = sys / "fs" / "cgroup" / parts[1]
        elif controllers == [""]:
            mount = sys / "fs" / "cgroup"
        else:
            continue
        folder = mount / group
        while folder != mount and mount in folder.parents:
            yield folder
            folder = folder.parent
        yield mount


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        # `max` means no limit.
        return None


def _pair(path: Path) -> tuple[int | None, int | None]:
    try:
        quota, period = path.read_text().split()
        return int(quota), int(period)
    except (OSError, ValueError):
        return None, None


def _droppable(path: Path) -> int:
    try:
        fields = dict(line.split() for line in path.read_text().splitlines())
        return int(fields.get("total_inactive_file") or fields.get("inactive_file") or 0)
    except (OSError, ValueError):
        return 0
