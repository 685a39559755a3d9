"""A server of the measurement's own, with what the kernel says of it."""

import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx2
import psutil

SERVE = "from app.core.settings import Settings; from app.main import serve; serve(Settings())"
START_SECONDS = 120
SAMPLE_SECONDS = 0.5


class Server:
    """`serve()` over a data folder. Processor time and memory are those of the server's process alone, without trainers."""

    def __init__(self, data_dir: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        environment = {**os.environ, "AFFINAGE_DATA_DIR": str(data_dir), "AFFINAGE_PORT": str(self.port)}
        environment |= {"AFFINAGE_LOG_LEVEL": "WARNING", "AFFINAGE_TRACE_PLANS": "false"}
        self.client = httpx2.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=60)
        began = time.monotonic()
        self._process = subprocess.Popen([sys.executable, "-c", SERVE], env=environment)
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() - began > START_SECONDS:
                raise RuntimeError("the server does not start")
            time.sleep(0.02)
        self.start_seconds = time.monotonic() - began
        self._seen = psutil.Process(self._process.pid)
        self.peak_bytes = 0
        self._stopping = threading.Event()
        self._sampler = threading.Thread(target=self._sample, daemon=True)
        self._sampler.start()

    def _answers(self) -> bool:
        try:
            return self.client.get("/api/health").status_code == 200
        except httpx2.TransportError:
            return False

    def _sample(self) -> None:
        while not self._stopping.wait(SAMPLE_SECONDS):
            self.peak_bytes = max(self.peak_bytes, self._seen.memory_info().rss)

    def cpu_seconds(self) -> float:
        """Return the processor time that the server has used so far."""
        times = self._seen.cpu_times()
        return times.user + times.system

    def close(self) -> None:
        """Stop the server."""
        self._stopping.set()
        self._sampler.join()
        self._process.terminate()
        self._process.wait()
        self.client.close()
