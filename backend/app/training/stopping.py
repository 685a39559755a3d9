"""How a running job is asked to end."""

import signal
from typing import Literal

from app.storage.job_dir import JobDir


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

    def listen(self) -> None:
        """Take SIGTERM as a wish to pause; the server writes control/cancel first when it means cancel."""
        signal.signal(signal.SIGTERM, self._on_signal)

    def check(self) -> None:
        """Raise Stopped when someone asked. Cheap: called before each micro-batch."""
        if self._job_dir.cancel_file.exists():
            raise Stopped("cancelled")
        if self._terminated or self._job_dir.pause_file.exists():
            raise Stopped("paused")

    def _on_signal(self, *_: object) -> None:
        self._terminated = True
