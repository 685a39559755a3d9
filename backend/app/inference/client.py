"""Talk to the inference worker: start it, ask it, make it free its model. No torch here.

One connection carries one command; the worker answers with lines of ChatDelta. A worker that is not there, or dies
before the end of an answer, is a ConnectionError.
"""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from app.contracts.chat import ChatDelta, GenerateCommand, UnloadCommand
from app.inference.address import short_address

UNLOAD_SECONDS = 60.0
"""Longest wait for the model to be freed: a running answer stops after its current token, a loading model first loads."""
STARTED_SECONDS = 20.0
"""Longest wait for a new worker to listen; it does so before it imports torch."""


def generate(socket_path: Path, command: GenerateCommand) -> Iterator[ChatDelta]:
    """Yield the answer piece by piece; the last one is `finished`, with `error_key` when it failed.

    Closing the iterator stops the worker's work on it. Raise ConnectionError.
    """
    with _connect(socket_path) as connection, connection.makefile("rwb") as stream:
        stream.write(command.model_dump_json().encode() + b"\n")
        stream.flush()
        for line in stream:
            delta = ChatDelta.model_validate_json(line)
            yield delta
            if delta.finished:
                return
    raise ConnectionResetError("the inference worker ended before its answer did")


def unload(socket_path: Path) -> bool:
    """Make the worker free its model and wait until it has; running and waiting answers end early.

    Return False when no worker runs. Raise TimeoutError when it does not obey.
    """
    try:
        with _connect(socket_path) as connection, connection.makefile("rwb") as stream:
            connection.settimeout(UNLOAD_SECONDS)
            stream.write(UnloadCommand().model_dump_json().encode() + b"\n")
            stream.flush()
            stream.readline()
    except ConnectionError:
        return False
    return True


def is_up(socket_path: Path) -> bool:
    """Return whether a worker listens."""
    try:
        _connect(socket_path).close()
    except ConnectionError:
        return False
    return True


def ensure_worker(socket_path: Path, device_id: str, idle_seconds: float, log_file: Path) -> None:
    """Start a worker unless one listens, and wait until it does.

    It runs in its own session, writes to `log_file` and ends by itself after `idle_seconds` without a request.
    Two callers at once are safe: the second worker finds the first one's lock and ends. Raise ConnectionError.
    """
    if is_up(socket_path):
        return
    socket_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    log_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    arguments = ["--socket", str(socket_path), "--device", device_id, "--idle-seconds", str(idle_seconds)]
    with log_file.open("ab") as log:
        worker = subprocess.Popen(
            [sys.executable, "-m", "app.inference", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={**os.environ, "AFFINAGE_INFERENCE_LOG": str(log_file)},
        )
    deadline = time.monotonic() + STARTED_SECONDS
    while time.monotonic() < deadline:
        if is_up(socket_path):
            return
        if worker.poll() not in {None, 0}:  # 0: another worker holds the lock and is about to listen
            raise ConnectionRefusedError(f"the inference worker ended with code {worker.returncode}; see {log_file}")
        time.sleep(0.02)
    raise ConnectionRefusedError(f"the inference worker does not listen; see {log_file}")


def _connect(socket_path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with short_address(socket_path) as address:
            connection.connect(address)
    except FileNotFoundError as error:
        connection.close()
        raise ConnectionRefusedError("no inference worker runs") from error
    except OSError:
        connection.close()
        raise
    return connection
