"""How much of the processor other programs used meanwhile."""

import time

from app.hardware.cores import list_usable_cores, read_busy_seconds


class BusyOthers:
    """Begins to count when it is made."""

    def __init__(self) -> None:
        self._cores = len(list_usable_cores())
        self._begun = self._read()

    def measure_share(self) -> float:
        """Return the share (0..1) of this process's cores that others kept busy since; what a host took away counts."""
        wall, busy, own = (now - before for now, before in zip(self._read(), self._begun, strict=True))
        return min(1.0, max(0.0, (busy - own) / (wall * self._cores))) if wall > 0 else 0.0

    @staticmethod
    def _read() -> tuple[float, float, float]:
        """Return the time, the busy seconds of the cores, and those of this process."""
        return time.perf_counter(), read_busy_seconds(), time.process_time()
