"""The process that traces training steps: `python -m app.planner.trace`, which imports torch so that the server need not.

One request a line on its stdin, one answer a line on its stdout. It is started when it is first needed, kept while it is
used, ended after a time without work, and started again after a crash. Time and memory of a request are limited.
"""

import contextlib
import logging
import os
import resource
import selectors
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from app.contracts.plan import Notice
from app.contracts.trace import LinearsCall, ProfileCall, ReplayCall, TraceAnswer
from app.core.units import GIB

log = logging.getLogger(__name__)

COMMAND = (sys.executable, "-m", "app.planner.trace")
ANSWER_SECONDS = 60.0
"""Longest wait for one answer, start of the process included."""
MEMORY_BYTES = 6 * GIB
"""Most private memory of the worker. Nothing on torch's `meta` device has contents: real models took less than 1 GB."""
NICENESS = 10
"""Plans must not slow a training down."""
QUIET = {
    "CUDA_VISIBLE_DEVICES": "",
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_OFFLINE": "1",
}
"""The worker touches no card, computes nothing and asks nobody."""


class TraceFailed(Exception):
    """There is no answer; `notice` says why."""

    def __init__(self, variant: str, **params: object) -> None:
        self.notice = Notice(key=f"not_traced.{variant}", params=params)
        super().__init__(self.notice.key)


class TraceWorker:
    """One process and the lock that orders the requests to it."""

    def __init__(self, log_file: Path, idle_seconds: float, command: Sequence[str] = COMMAND) -> None:
        self._log_file = log_file
        self._idle_seconds = idle_seconds
        self._command = command
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._unread = b""
        self._idle_timer: threading.Timer | None = None
        self._used = 0.0
        self._closed = False

    @property
    def log_name(self) -> str:
        """The file that its stderr goes to."""
        return self._log_file.name

    @property
    def pid(self) -> int | None:
        """The process id while it lives."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def ask(self, call: ProfileCall | ReplayCall | LinearsCall) -> TraceAnswer:
        """Return the worker's answer; start it where there is none, once more when it dies. Raise TraceFailed."""
        deadline = time.monotonic() + ANSWER_SECONDS
        if not self._lock.acquire(timeout=ANSWER_SECONDS):
            raise TraceFailed("slow", seconds=round(ANSWER_SECONDS))
        try:
            for attempt in range(2):
                line = self._exchange(call.model_dump_json().encode() + b"\n", deadline)
                if line is not None:
                    return self._read_answer(line)
                log.warning("The trace worker died%s; see %s.", " again" if attempt else "", self.log_name)
            raise TraceFailed("crashed", log=self.log_name)
        finally:
            self._lock.release()

    def warm(self) -> None:
        """Start the process now, so that the first question finds it ready."""
        if self._lock.acquire(blocking=False):
            try:
                self._ensure()
            finally:
                self._lock.release()

    def release(self) -> None:
        """End the process if it has nothing to do: a training needs the memory."""
        if self._lock.acquire(blocking=False):
            try:
                self._end()
            finally:
                self._lock.release()

    def close(self) -> None:
        """End the process, after the request that it works on."""
        self._closed = True
        with self._lock:
            self._end()

    def _read_answer(self, line: bytes) -> TraceAnswer:
        try:
            return TraceAnswer.model_validate_json(line)
        except ValidationError:
            log.warning("The trace worker said something that is no answer: %r", line[:200])
            self._end()
            raise TraceFailed("crashed", log=self.log_name) from None

    def _exchange(self, line: bytes, deadline: float) -> bytes | None:
        """Send one line and return the answer; None when the process died. Raise TraceFailed when it is too slow."""
        process = self._ensure()
        assert process.stdin is not None
        try:
            process.stdin.write(line)
            process.stdin.flush()
            return self._read_line(process, deadline)
        except OSError:
            self._end()
            return None

    def _read_line(self, process: subprocess.Popen[bytes], deadline: float) -> bytes | None:
        assert process.stdout is not None
        with selectors.DefaultSelector() as waiting:
            waiting.register(process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._unread:
                remaining = deadline - time.monotonic()
                if remaining <= 0 or not waiting.select(remaining):
                    self._end()
                    raise TraceFailed("slow", seconds=round(ANSWER_SECONDS))
                piece = os.read(process.stdout.fileno(), 1 << 20)
                if not piece:
                    self._end()
                    return None
                self._unread += piece
        answer, _, self._unread = self._unread.partition(b"\n")
        return answer

    def _ensure(self) -> subprocess.Popen[bytes]:
        """Return the living process. Raise TraceFailed when none can be started."""
        self._used = time.monotonic()
        if self._process is not None and self._process.poll() is None:
            return self._process
        self._end()
        if self._closed:
            raise TraceFailed("start", reason="closed")
        try:
            with self._log_file.open("ab") as output:
                process = subprocess.Popen(
                    self._command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=output,
                    start_new_session=True,
                    env={**os.environ, **QUIET},
                )
        except OSError as problem:
            raise TraceFailed("start", reason=problem.strerror or str(problem)) from problem
        self._process = process
        with contextlib.suppress(OSError):  # it may have died already
            os.setpriority(os.PRIO_PROCESS, process.pid, NICENESS)
            resource.prlimit(process.pid, resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
        self._watch_idle(self._idle_seconds)
        return process

    def _watch_idle(self, seconds: float) -> None:
        self._idle_timer = threading.Timer(seconds, self._end_if_idle)
        self._idle_timer.daemon = True
        self._idle_timer.start()

    def _end_if_idle(self) -> None:
        with self._lock:
            if self._process is None:
                return
            remaining = self._idle_seconds - (time.monotonic() - self._used)
            if remaining <= 0:
                self._end()
            else:
                self._watch_idle(remaining)

    def _end(self) -> None:
        process, self._process, self._unread = self._process, None, b""
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None
        if process is None:
            return
        process.kill()  # it holds nothing that could be lost
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        process.wait()
