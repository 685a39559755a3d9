"""The logical processors that this process may use, and how long they were at work."""

import os

import psutil


def list_usable_cores() -> list[int]:
    """Return their numbers, in order: those that affinity leaves, all where the system knows none (macOS)."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def read_busy_seconds() -> float:
    """Return the seconds that these were at work since the system started, for whomever, or were taken by a host."""
    every = psutil.cpu_times(percpu=True)
    used = (every[core] for core in list_usable_cores() if core < len(every))
    return sum(sum(core) - core.idle - getattr(core, "iowait", 0.0) - _count_twice(core) for core in used)


def _count_twice(core: object) -> float:
    """Return the seconds that Linux counts in `user` and `nice` and again as a guest's (proc_stat(5))."""
    return float(getattr(core, "guest", 0.0) + getattr(core, "guest_nice", 0.0))
