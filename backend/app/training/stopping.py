"""How a running job is asked to end, and how it shows that it lives."""

import faulthandler
import os
import signal
import time
from typing import Literal

from app.storage.job_dir import JobDir

BEAT_SECONDS = 1.0


class Stopped(Exception):
    """Someone asked the trainer to end: for good (`cancelled`), or to be continued later (`paused`)."""

    def __init__(self, reason: Literal["cancelled", "paused"]) -> None:
        super().__init__(reason)
        self.reason = reason


class StopWatch:
    """Looks for the files `control/cancel` and `control/pause`, and for SIGTERM."""

    def __init__(self, job_dir: JobDir) -> None:
        self._job_dir = job_dir
        self._terminated = False
        self._beat_at = 0.0

    def listen(self) -> None:
        """Take SIGTERM as a wish to pause; the server writes control/cancel first when it means cancel.

        SIGUSR1 writes what every thread is doing into the log: the server asks for it when the job stalls.
        """
        signal.signal(signal.SIGTERM, self._on_signal)
        faulthandler.register(signal.SIGUSR1, all_threads=True)

    def check(self) -> None:
        """Raise Stopped when someone asked. Cheap: called before each micro-batch.

        Each call is a sign of life: about once a second it touches `control/heartbeat`.
        """
        if time.monotonic() - self._beat_at >= BEAT_SECONDS:
            self._beat_at = time.monotonic()
            self.beat()
        if self._job_dir.cancel_file.exists():
            raise Stopped("cancelled")
        if self._terminated or self._job_dir.pause_file.exists():
            raise Stopped("paused")

    def beat(self) -> None:
        """Touch the file whose time the server's watchdog looks at."""
        try:
            os.utime(self._job_dir.heartbeat_file)
        except FileNotFoundError:
            self._job_dir.heartbeat_file.touch()

    def _on_signal(self, *_: object) -> None:
        self._terminated = True
