"""How much of the processor other programs used meanwhile."""

import time

import psutil

from app.hardware.cores import list_usable_cores


class BusyOthers:
    """Begins to count when it is made."""

    def __init__(self) -> None:
        self._cores = list_usable_cores()
        self._begun = self._read()

    def measure_share(self) -> float:
        """Return the share (0..1) of this process's cores that others kept busy since; what a host took away counts."""
        wall, busy, own = (now - before for now, before in zip(self._read(), self._begun, strict=True))
        return min(1.0, max(0.0, (busy - own) / (wall * len(self._cores)))) if wall > 0 else 0.0

    def _read(self) -> tuple[float, float, float]:
        """Return the time, the busy seconds of the cores, and those of this process."""
        every = psutil.cpu_times(percpu=True)
        cores = [every[index] for index in self._cores if index < len(every)]
        busy = sum(sum(core) - core.idle - getattr(core, "iowait", 0.0) - _count_twice(core) for core in cores)
        return time.perf_counter(), busy, time.process_time()


def _count_twice(core: object) -> float:
    """Return the seconds that Linux counts in `user` and `nice` and again as a guest's (proc_stat(5))."""
    return float(getattr(core, "guest", 0.0) + getattr(core, "guest_nice", 0.0))
