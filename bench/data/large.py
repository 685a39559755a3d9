"""A file of gigabytes with the command line: how long, in how much memory, with what progress; and broken off half way."""

import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from real_rows import write_large

COMMAND = [sys.executable, "-m", "app.cli", "data", "import"]
_PROGRESS = re.compile(rb"[\d.,]+/[\d.,]+ [kMG]B")
_ASK_SECONDS = 0.02


def measure_large(gigabytes: float) -> dict[str, Any]:
    """Import a file of that size on a terminal of its own, whole and then broken off at half of the time."""
    with tempfile.TemporaryDirectory(prefix="affinage-bench-") as name:
        folder = Path(name)
        file, scratch = folder / "rows.jsonl", folder / "scratch"
        write_large(file, round(gigabytes * 1e9))
        scratch.mkdir()
        whole = _run(file, scratch, None)
        shutil.rmtree(scratch)
        scratch.mkdir()
        broken = _run(file, scratch, whole["seconds"] / 2)
        left = sum(path.stat().st_size for path in (scratch / "data" / "datasets").rglob("*") if path.is_file())
        return {
            "bytes": file.stat().st_size,
            "seconds": whole["seconds"],
            "cpu_seconds": whole["cpu_seconds"],
            "status": whole["status"],
            "peak_bytes": max(whole["peak_bytes"], broken["peak_bytes"]),
            "shown": whole["shown"],
            "broken_after_seconds": whole["seconds"] / 2,
            "broken_end_seconds": broken["end_seconds"],
            "broken_status": broken["status"],
            "broken_said": broken["said"],
            "left_bytes": left,
        }


def _run(file: Path, scratch: Path, break_after_seconds: float | None) -> dict[str, Any]:
    """Run the command on a terminal; `break_after_seconds`: press Ctrl-C then."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TMPDIR": str(scratch), "AFFINAGE_DATA_DIR": str(scratch / "data"), "TERM": "xterm"}
    written = bytearray()

    def listen() -> None:
        try:
            while block := os.read(ours, 1 << 16):
                written.extend(block)
        except OSError:  # the terminal is closed
            pass

    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell makes what it starts in the background ignore it
    began = time.perf_counter()
    process = subprocess.Popen([*COMMAND, str(file)], stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    listener = threading.Thread(target=listen)
    listener.start()
    pressed = 0.0
    while True:
        ended, status, used = os.wait4(process.pid, os.WNOHANG)
        if ended:
            break
        now = time.perf_counter()
        if break_after_seconds is not None and not pressed and now - began >= break_after_seconds:
            pressed = now
            os.kill(process.pid, signal.SIGINT)
        time.sleep(_ASK_SECONDS)
    over = time.perf_counter()
    process.returncode = os.waitstatus_to_exitcode(status)
    listener.join()
    os.close(ours)
    return {
        "seconds": over - began,
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "end_seconds": over - pressed if pressed else 0.0,
        "status": process.returncode,
        "peak_bytes": used.ru_maxrss << 10,
        "shown": len(_PROGRESS.findall(bytes(written))),
        "said": bytes(written).decode(errors="replace").strip().splitlines()[-1:],
    }
