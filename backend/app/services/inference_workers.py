"""The chat workers: one process per device behind a Unix socket in `run/` (0700), started when it is first needed.

A worker may outlive the server that started it (kill -9); the next server finds it at the same socket.
"""

import logging
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import defaultdict
from pathlib import Path

from app.core.settings import Settings
from app.inference import client
from app.inference.address import short_address

log = logging.getLogger(__name__)

START_SECONDS = 20.0
"""Longest wait for a new worker to listen; it does so before it imports torch."""
POLL_SECONDS = 0.02
END_SECONDS = 2.0
"""A worker that is told to end gets this long; it has nothing to save."""
CREDENTIALS = struct.Struct("3i")
"""pid, uid, gid: what SO_PEERCRED tells about the process behind a Unix socket."""


def worker_environment() -> dict[str, str]:
    """Return this process's environment with what a worker needs: weights in huge pages, cards in NVML's order."""
    return {**os.environ, "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}


class InferenceWorkers:
    """Starts, finds, unloads and ends the workers of this data folder."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._used: set[str] = set()

    def socket_path(self, device_id: str) -> Path:
        """Return where the worker of a device listens."""
        return self._settings.data_dir / "run" / f"inference-{device_id.replace(':', '-')}.sock"

    def ensure(self, device_id: str) -> Path:
        """Return the socket of a worker that listens; start one where there is none. Raise ConnectionError.

        The worker runs in its own session and ends by itself after the idle time of the settings.
        """
        path = self.socket_path(device_id)
        self._used.add(device_id)
        with self._locks[device_id]:
            if client.is_up(path):
                return path
            log_file = self._settings.data_dir / "logs" / f"inference-{device_id.replace(':', '-')}.log"
            process = self._processes[device_id] = self._spawn(path, device_id, log_file)
            deadline = time.monotonic() + START_SECONDS
            while time.monotonic() < deadline:
                if client.is_up(path):
                    return path
                if process.poll() is not None:
                    raise ConnectionRefusedError(f"it ended with code {process.returncode}; see {log_file.name}")
                time.sleep(POLL_SECONDS)
            raise ConnectionRefusedError(f"it does not listen; see {log_file.name}")

    def _spawn(self, path: Path, device_id: str, log_file: Path) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "app.inference", "--socket", str(path), "--device", device_id]
        with log_file.open("ab") as output:
            return subprocess.Popen(
                [*command, "--idle-seconds", str(self._settings.inference_idle_seconds)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**worker_environment(), "AFFINAGE_INFERENCE_LOG": str(log_file)},
            )

    def release(self, device_id: str) -> None:
        """Make the worker of a device give its memory back; end a worker that does not obey."""
        try:
            client.unload(self.socket_path(device_id))
        except OSError as problem:
            log.warning("The chat worker on %s did not unload (%s) and is ended.", device_id, problem)
            self.end(device_id, signal.SIGKILL)

    def end(self, device_id: str, kind: signal.Signals = signal.SIGTERM) -> None:
        """End the worker that listens for a device, if there is one."""
        pid = find_listener(self.socket_path(device_id))
        if pid is not None:
            try:
                os.kill(pid, kind)
            except ProcessLookupError:
                return

    def close(self) -> None:
        """End every worker that this process has used."""
        for device_id in self._used:
            self.end(device_id)
        for process in self._processes.values():
            try:
                process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def find_listener(path: Path) -> int | None:
    """Return the pid of the process that listens at a Unix socket, or None."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            with short_address(path) as address:
                probe.connect(address)
            packed = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
        except OSError:
            return None
    pid: int = CREDENTIALS.unpack(packed)[0]
    return pid
