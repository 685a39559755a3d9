"""The chat workers: one process per device behind a Unix socket in `run/` (0700), started when it is first needed.

A worker may outlive the server that started it (kill -9); the next server finds it at the same socket.
"""

import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections import defaultdict
from pathlib import Path

from app.core.settings import Settings
from app.inference import client

log = logging.getLogger(__name__)

START_SECONDS = 120.0
"""How long a worker may take to listen: a cold import of torch from a slow disk takes most of a minute."""
UNLOAD_SECONDS = 15.0
POLL_SECONDS = 0.1


class WorkerFailed(Exception):
    """The worker ended before it listened; the text is the end of its log."""


class InferenceWorkers:
    """Starts, finds, unloads and ends the workers of this data folder."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    def socket_path(self, device_id: str) -> Path:
        """Return where the worker of a device listens."""
        return self._settings.data_dir / "run" / f"inference-{device_id.replace(':', '-')}.sock"

    def ensure(self, device_id: str) -> Path:
        """Return the socket of a worker that listens; start one where there is none. Raise WorkerFailed."""
        path = self.socket_path(device_id)
        with self._locks[device_id]:
            if listens(path):
                return path
            path.unlink(missing_ok=True)
            log_file = self._settings.data_dir / "logs" / f"inference-{device_id.replace(':', '-')}.log"
            with log_file.open("wb") as output:
                process = subprocess.Popen(
                    [sys.executable, "-m", "app.inference", "--socket", str(path), "--device", device_id]
                    + ["--idle-seconds", str(self._settings.inference_idle_seconds)],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    env={**os.environ, "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1", "PYTHONUNBUFFERED": "1"},
                )
            self._processes[device_id] = process
            deadline = time.monotonic() + START_SECONDS
            while not listens(path):
                if process.poll() is not None or time.monotonic() > deadline:
                    process.kill()
                    process.wait()
                    raise WorkerFailed(log_file.read_text("utf-8", "replace")[-2000:])
                time.sleep(POLL_SECONDS)
        return path

    def release(self, device_id: str) -> None:
        """Make the worker of a device give its memory back; end it if it does not within UNLOAD_SECONDS."""
        path = self.socket_path(device_id)
        if not listens(path):
            return
        unloading = threading.Thread(target=self._unload, args=(path,), daemon=True)
        unloading.start()
        unloading.join(UNLOAD_SECONDS)
        if unloading.is_alive():
            log.warning("The chat worker on %s did not unload in time and is ended.", device_id)
            self.end(device_id)

    @staticmethod
    def _unload(path: Path) -> None:
        try:
            client.unload(path)
        except OSError as problem:
            log.info("The chat worker went away while it was asked to unload: %s", problem)

    def end(self, device_id: str) -> None:
        """End the worker of a device if this process started it."""
        process = self._processes.pop(device_id, None)
        if process is not None:
            process.kill()
            process.wait()
            self.socket_path(device_id).unlink(missing_ok=True)

    def close(self) -> None:
        """End every worker that this process started."""
        for device_id in list(self._processes):
            self.end(device_id)


def listens(path: Path) -> bool:
    """Whether a process accepts connections at this socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True
