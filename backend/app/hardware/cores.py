"""The logical processors that this process may use."""

import os


def list_usable_cores() -> list[int]:
    """Return their numbers, in order: those that affinity leaves, all where the system knows none (macOS)."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))
