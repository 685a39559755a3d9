"""The files of one job: the truth that the database indexes.

jobs/<id>/
    job.json            TrainingJob, frozen
    request.json        RequestKey: the Idempotency-Key that the job was started with, if any
    events.jsonl        JobEvent lines, seq 1, 2, 3, ...
    process.json        ProcessIdentity of the trainer of the current attempt
    trainer.lock        locked as long as the trainer lives, whoever started it and wherever
    trainer.log         its stdout and stderr
    control/cancel      asks the trainer to stop (control/pause: stop at a checkpoint)
    control/heartbeat   touched by the trainer about once a second while it works
    data/               train.jsonl, heldout.jsonl: hard links into the data set
    encoded/            the same as token ids, while the job is unfinished
    start/              the adapter that the job continues, if it does
    checkpoints/        checkpoint-<step>/
    adapter/            the result, in PEFT's format
    report.json         Report
    comparison.json     Comparison: base and tuned on the same rows
"""

import errno
import fcntl
import json
import os
import shutil
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from app.contracts.comparison import Comparison
from app.contracts.events import Event, JobEvent, JobFailed, StatusChanged, job_event
from app.contracts.frozen import Frozen
from app.contracts.job import TrainingJob
from app.contracts.report import Report


def utc_now() -> str:
    """Return the time in UTC as ISO 8601 with milliseconds and `Z`."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def write_atomically(path: Path, text: str) -> None:
    """Replace `path` by `text` so that a crash leaves the old or the new file, never a half one."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_native_id()}.tmp")
    try:
        with aside.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        aside.rename(path)
    except OSError:  # a full disk: what was written is in the way of others
        aside.unlink(missing_ok=True)
        raise
    fsync_folder(path.parent)


def fsync_folder(path: Path) -> None:
    """Make renames and new files inside `path` durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class ProcessIdentity(Frozen):
    """Names one process for good: pids are reused, start times after a boot are not."""

    pid: int
    started: float
    """Seconds since the epoch, as the kernel reports it (psutil `create_time`)."""
    boot_id: str


class RequestKey(Frozen):
    """An `Idempotency-Key` and the hash of the request that it came with."""

    key: str
    request_hash: str


class Inside:
    """A path below a job's folder, put together when it is asked for: a list of jobs needs one of all these for each."""

    def __init__(self, *parts: str) -> None:
        self._parts = parts

    def __get__(self, folder: "JobDir", _owner: type) -> Path:
        return folder.path.joinpath(*self._parts)


class JobDir:
    """Paths and files of one job."""

    job_file = Inside("job.json")
    events_file = Inside("events.jsonl")
    process_file = Inside("process.json")
    request_file = Inside("request.json")
    lock_file = Inside("trainer.lock")
    log_file = Inside("trainer.log")
    report_file = Inside("report.json")
    comparison_file = Inside("comparison.json")
    cancel_file = Inside("control", "cancel")
    pause_file = Inside("control", "pause")
    heartbeat_file = Inside("control", "heartbeat")
    train_file = Inside("data", "train.jsonl")
    heldout_file = Inside("data", "heldout.jsonl")
    encoded = Inside("encoded")
    checkpoints = Inside("checkpoints")
    adapter = Inside("adapter")
    adapter_config = Inside("adapter", "adapter_config.json")
    start_adapter = Inside("start")

    def __init__(self, path: Path) -> None:
        self.path = path

    def create(self, job: TrainingJob) -> None:
        """Make the folder with job.json inside, durable before it returns."""
        for folder in (self.path, self.path / "control", self.path / "data"):
            folder.mkdir(mode=0o700, parents=True)
        write_atomically(self.job_file, job.model_dump_json(indent=2))
        fsync_folder(self.path.parent)

    def read_job(self) -> TrainingJob:
        """Return the frozen job."""
        return TrainingJob.model_validate_json(self.job_file.read_bytes())

    def find_request(self) -> RequestKey | None:
        """Return the Idempotency-Key that the job was started with, if any."""
        try:
            return RequestKey.model_validate_json(self.request_file.read_bytes())
        except FileNotFoundError:
            return None

    def find_report(self) -> Report | None:
        """Return the report once the job has written one."""
        return Report.model_validate_json(self.report_file.read_bytes()) if self.report_file.exists() else None

    def find_comparison(self) -> Comparison | None:
        """Return how base and tuned did on the same rows, once that was measured."""
        try:
            return Comparison.model_validate_json(self.comparison_file.read_bytes())
        except FileNotFoundError:
            return None

    def find_process(self) -> ProcessIdentity | None:
        """Return who trains, as recorded at the start of the last attempt."""
        try:
            return ProcessIdentity.model_validate_json(self.process_file.read_bytes())
        except FileNotFoundError:
            return None

    def is_trained(self) -> bool:
        """Whether some process, on this machine or another, holds the trainer's lock."""
        try:
            descriptor = os.open(self.lock_file, os.O_RDONLY)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: two that look do not see each other
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def clear_leftovers(self) -> None:
        """Delete what a trainer that was killed left of files that it was writing. Nobody may be training."""
        for folder in (self.path, self.checkpoints, self.adapter):
            for leftover in folder.glob(".*.tmp"):
                shutil.rmtree(leftover, ignore_errors=True) if leftover.is_dir() else leftover.unlink(missing_ok=True)

    def append(self, event: Event) -> JobEvent:
        """Write one event with the next `seq` and the time; return it as written.

        Trainer and server may both append: the lock orders them. A line torn by a crash is cut off first. A change of
        the status is on the disk before it is told to anybody.
        """
        with self._locked_events() as descriptor:
            last = self._repair_tail(descriptor)
            stamped = event.model_copy(update={"seq": last + 1, "at": utc_now()})
            line = stamped.model_dump_json().encode() + b"\n"
            if os.write(descriptor, line) < len(line):  # the disk took only a part; the next one who writes cuts it off
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.events_file))
            if isinstance(event, StatusChanged | JobFailed):
                os.fsync(descriptor)
        return job_event.validate_python(stamped.model_dump())

    def read_events(self, after: int = 0) -> Iterator[JobEvent]:
        """Yield complete events with `seq > after`."""
        if not self.events_file.exists():
            return
        with self.events_file.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    return
                event = job_event.validate_json(line)
                if event.seq > after:
                    yield event

    def restore_lines(self, lines: Iterable[tuple[int, str]]) -> tuple[int, int]:
        """Append those (seq, line) that the file lacks; return the last seq and the size of the file in bytes.

        After a loss of power the database may know events that never reached the disk here.
        """
        with self._locked_events() as descriptor:
            last = self._repair_tail(descriptor)
            for seq, line in lines:
                if seq > last:
                    os.write(descriptor, line.encode() + b"\n")
                    last = seq
            os.fsync(descriptor)
            return last, os.fstat(descriptor).st_size

    @contextmanager
    def _locked_events(self) -> Iterator[int]:
        descriptor = os.open(self.events_file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield descriptor
        finally:
            os.close(descriptor)

    @staticmethod
    def _repair_tail(descriptor: int) -> int:
        """Cut a torn last line off and return the last complete `seq` (0 for an empty file)."""
        size = os.fstat(descriptor).st_size
        window = 1 << 16
        while True:
            start = max(0, size - window)
            tail = os.pread(descriptor, size - start, start)
            end = tail.rfind(b"\n") + 1
            begin = tail.rfind(b"\n", 0, max(0, end - 1)) + 1
            if start == 0 or (end and begin):
                break
            window *= 4
        if end < len(tail):
            os.ftruncate(descriptor, start + end)
        return int(json.loads(tail[begin:end])["seq"]) if end else 0
