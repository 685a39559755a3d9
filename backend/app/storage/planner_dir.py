"""What the planner remembers of this machine.

planner/
    records.jsonl       one JobRecord a line: what jobs were predicted to take and took
    calibration.json    Calibrations: how fast the devices really are
    traces/<hash>.json  TraceProfile of one variant of one model's step (a cache, may be deleted)
    replays/<hash>.json Replay of a card's allocator on one step (the same)
    linears/<hash>.json Linears of one model (the same)
    measuring.lock      held while a device is measured: no training begins
"""

import fcntl
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from app.contracts.calibration import Calibration, Calibrations
from app.contracts.record import JobRecord
from app.contracts.trace import Linears, Replay, TraceProfile
from app.core.errors import Conflict
from app.storage.job_dir import write_atomically

log = logging.getLogger(__name__)

BEGINNING_SECONDS = 1.0
"""How long a measurement waits for a training that is just being claimed."""


class PlannerDir:
    """Paths and files below `<data folder>/planner`. Makes its folders when it first writes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records_file = path / "records.jsonl"
        self.calibration_file = path / "calibration.json"
        self.traces = path / "traces"
        self.replays = path / "replays"
        self.linears = path / "linears"
        self.measuring_lock = path / "measuring.lock"

    @contextmanager
    def measuring(self) -> Iterator[None]:
        """Keep trainings from beginning, in every process of this folder. Raise Conflict where something is measured already."""
        descriptor = self._open_lock()
        try:
            deadline = time.monotonic() + BEGINNING_SECONDS
            while not _try_lock(descriptor, fcntl.LOCK_EX):
                if time.monotonic() > deadline:
                    raise Conflict("calibrating")
                time.sleep(0.05)
            yield
        finally:
            os.close(descriptor)

    @contextmanager
    def beginning(self) -> Iterator[bool]:
        """Keep measurements from beginning; yield whether none is going on."""
        descriptor = self._open_lock()
        try:
            yield _try_lock(descriptor, fcntl.LOCK_SH)
        finally:
            os.close(descriptor)

    def _open_lock(self) -> int:
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.open(self.measuring_lock, os.O_RDWR | os.O_CREAT, 0o600)

    def append_record(self, record: JobRecord) -> None:
        """Add one line, durably; writers of several processes take turns."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self.records_file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            size = os.fstat(descriptor).st_size
            torn = bool(size) and os.pread(descriptor, 1, size - 1) != b"\n"  # by a crash: the line before ours is lost alone
            os.write(descriptor, b"\n" * torn + record.model_dump_json().encode() + b"\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def read_records(self) -> list[JobRecord]:
        """Return the records, oldest first, one a job; a line that cannot be read is logged and passed over."""
        try:
            lines = self.records_file.read_bytes().splitlines()
        except FileNotFoundError:
            return []
        found: dict[str, JobRecord] = {}
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                record = JobRecord.model_validate_json(line)
            except ValidationError:
                log.warning("Line %d of %s is no record and is passed over.", number, self.records_file)
                continue
            found[record.job_id] = record
        return list(found.values())

    def read_calibrations(self) -> Calibrations:
        """Return what was measured; nothing when the file cannot be read or is of another version."""
        try:
            return Calibrations.model_validate_json(self.calibration_file.read_bytes())
        except (OSError, ValidationError):
            return Calibrations()

    def write_calibration(self, new: Calibration) -> None:
        """Keep a calibration in place of older ones of its device."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(self.calibration_file, self.read_calibrations().replace(new).model_dump_json(indent=2))

    def find_trace(self, name: str) -> TraceProfile | None:
        """Return a profile by its name (`planner.traced.name_trace`), or None."""
        try:
            return TraceProfile.model_validate_json((self.traces / f"{name}.json").read_bytes())
        except (FileNotFoundError, ValidationError):
            return None

    def write_trace(self, name: str, profile: TraceProfile) -> None:
        """Keep a profile."""
        self.traces.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(self.traces / f"{name}.json", profile.model_dump_json())

    def find_replay(self, name: str) -> Replay | None:
        """Return a replay by its name (`planner.traced.name_trace`), or None."""
        try:
            return Replay.model_validate_json((self.replays / f"{name}.json").read_bytes())
        except (FileNotFoundError, ValidationError):
            return None

    def write_replay(self, name: str, replay: Replay) -> None:
        """Keep a replay."""
        self.replays.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(self.replays / f"{name}.json", replay.model_dump_json())

    def find_linears(self, name: str) -> Linears | None:
        """Return a model's linear layers by the name of the question (`planner.traced.name_trace`), or None."""
        try:
            return Linears.model_validate_json((self.linears / f"{name}.json").read_bytes())
        except (FileNotFoundError, ValidationError):
            return None

    def write_linears(self, name: str, linears: Linears) -> None:
        """Keep a model's linear layers."""
        self.linears.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(self.linears / f"{name}.json", linears.model_dump_json())


def _try_lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
