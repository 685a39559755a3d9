"""How many cores other programs leave to answers: from what they used over the last moments.

Who runs at one instant says little: a question over HTTP is brought by programs that run at the very instant at which it comes,
and an answer that left a core to them would leave it idle to its end.
"""

import time
from dataclasses import dataclass

from app.hardware.cores import read_busy_seconds

LOOK_SECONDS = 0.3
"""How often it is looked; the kernel counts in hundredths of a second."""
STALE_SECONDS = 3.0
"""What was seen longer ago says nothing about now."""


@dataclass(frozen=True)
class Reading:
    """Seconds since some start: of the clock, of work on the cores that this process may use, and of its own work."""

    clock: float
    busy: float
    own: float

    @classmethod
    def now(cls) -> "Reading":
        """Read the clocks."""
        return cls(time.monotonic(), read_busy_seconds(), time.process_time())

    def count_free(self, later: "Reading", cores: int) -> int:
        """Return how many of `cores` the others left between this reading and a later one, at least 1."""
        others = max(0.0, later.busy - self.busy - (later.own - self.own)) / (later.clock - self.clock)
        return max(1, min(cores, round(cores - others)))


class FreeCores:
    """The cores that answers may use, looked up again while they are written."""

    def __init__(self, cores: int) -> None:
        self._cores = self._free = cores
        self._last = Reading.now()

    def count(self) -> int:
        """Return how many to use now: all at first, then those that others left."""
        passed = time.monotonic() - self._last.clock
        if passed >= LOOK_SECONDS:
            reading = Reading.now()
            self._free = self._cores if passed > STALE_SECONDS else self._last.count_free(reading, self._cores)
            self._last = reading
        return self._free
