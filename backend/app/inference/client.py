"""Talk to the inference worker: ask it, make it free its model. No torch here.

One connection carries one command; the worker answers with lines of ChatDelta. A worker that is not there, or dies
before the end of an answer, is a ConnectionError.
"""

import socket
from collections.abc import Iterator
from pathlib import Path

from app.contracts.chat import ChatDelta, GenerateCommand, UnloadCommand
from app.inference.address import short_address

UNLOAD_SECONDS = 60.0
"""Longest wait for the model to be freed: a running answer stops after its current token, a loading model first loads."""


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
