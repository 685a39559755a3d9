"""Trainers that no longer get on: each tick it is seen whether anything moved since the last one.

A trainer touches `control/heartbeat` before each micro-batch and writes events. Their times are only compared with
themselves, and the waiting is measured by a clock that nobody can set.
"""

import enum
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from app.storage.job_dir import JobDir

DUMP_SECONDS = 2.0
"""For the stacks to be written into the log before the trainer is asked to end."""
KILL_SECONDS = 10.0
"""Between asking and killing."""


class Step(enum.Enum):
    """What is due with a trainer that stalls."""

    DUMP = enum.auto()
    TERMINATE = enum.auto()
    KILL = enum.auto()


@dataclass
class Watched:
    """The last sign of life of one trainer."""

    sign: tuple[int, int]
    since: float
    taken: Step | None = None
    taken_at: float = 0.0


class Watchdog:
    """Remembers since when each trainer has been silent."""

    def __init__(self, stall_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._stall_seconds = stall_seconds
        self._clock = clock
        self._watched: dict[str, Watched] = {}

    def look(self, job_id: str, job_dir: JobDir) -> Step | None:
        """Return what is due now: stacks first, then the wish to end, then the end; each once, the last again and again."""
        now, sign = self._clock(), read_sign(job_dir)
        watched = self._watched.get(job_id)
        if watched is None or (watched.sign != sign and watched.taken is None):
            self._watched[job_id] = Watched(sign, now)
            return None
        step = self._next(watched, now)
        if step is not None:
            watched.taken, watched.taken_at = step, now
        return step

    def _next(self, watched: Watched, now: float) -> Step | None:
        waited = now - watched.taken_at
        match watched.taken:
            case None:
                return Step.DUMP if now - watched.since > self._stall_seconds else None
            case Step.DUMP:
                return Step.TERMINATE if waited > DUMP_SECONDS else None
            case _:
                return Step.KILL if waited > KILL_SECONDS else None

    def has_stalled(self, job_id: str) -> bool:
        """Return whether this trainer was given up."""
        watched = self._watched.get(job_id)
        return watched is not None and watched.taken is not None

    def forget(self, job_id: str) -> None:
        """Drop what is known of a trainer that is gone."""
        self._watched.pop(job_id, None)


def read_sign(job_dir: JobDir) -> tuple[int, int]:
    """Return numbers that change when a trainer gets on: the times of its heartbeat and of its events, in nanoseconds."""
    return _read_time(job_dir.heartbeat_file), _read_time(job_dir.events_file)


def _read_time(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0
