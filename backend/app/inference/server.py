"""The worker's socket: takes commands, answers them one after another, frees the model when asked, ends when idle.

A small thread per connection reads its one line; the main thread, which alone touches the model, works through the
queue. An unload overtakes the queue: answers that are running or waiting at that moment end with `conflict.device_needed`.
"""

import fcntl
import logging
import os
import queue
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Protocol

from pydantic import Field, TypeAdapter, ValidationError

from app.contracts.chat import ChatDelta, GenerateCommand, UnloadCommand
from app.core.errors import AffinageError, Conflict
from app.inference.address import short_address

log = logging.getLogger(__name__)
_command: TypeAdapter[GenerateCommand | UnloadCommand] = TypeAdapter(
    Annotated[GenerateCommand | UnloadCommand, Field(discriminator="command")]
)
LINE_BYTES = 16 << 20
"""Longest command."""
PEER_SECONDS = 10.0
"""A client that neither sends its command nor takes its answer for so long is dropped."""
LOCK_SECONDS = 10.0
"""How long a predecessor may take to go away."""
POLL_SECONDS = 0.25


class Interrupted(Exception):
    """The device is needed for something else."""


class Answering(Protocol):
    """What the server needs of engine.Engine; so that it can listen before torch is imported."""

    def answer(self, command: GenerateCommand, is_interrupted: Callable[[], bool]) -> Iterator[ChatDelta]:
        """Yield the pieces of an answer; raise Interrupted soon after `is_interrupted()` turns true."""
        ...

    def unload(self) -> None:
        """Free the model."""
        ...

    def is_out_of_memory(self, error: Exception) -> str | None:
        """Return the error key when `error` says that memory ran out."""
        ...


class AlreadyServed(Exception):
    """Another worker serves this socket."""


@dataclass(frozen=True)
class _Request:
    """A command that waits for its turn."""

    connection: socket.socket
    command: GenerateCommand | UnloadCommand
    unloads_before: int
    """Unloads that had been asked for when it came; later ones end it."""


@contextmanager
def listening(socket_path: Path) -> Iterator[socket.socket]:
    """Own `socket_path` (mode 0600) inside the block. Raise AlreadyServed when another worker keeps owning it."""
    with ExitStack() as stack:
        lock = os.open(socket_path.with_name(socket_path.name + ".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        stack.callback(os.close, lock)
        _wait_for_lock(lock)
        address = stack.enter_context(short_address(socket_path))
        listener = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        socket_path.unlink(missing_ok=True)  # left by a killed worker; the lock says that nobody listens there
        before = os.umask(0o177)  # the file must never exist with wider rights
        try:
            listener.bind(address)
        finally:
            os.umask(before)
        inode = socket_path.stat().st_ino
        listener.listen(64)
        try:
            yield listener
        finally:
            with suppress(FileNotFoundError):
                if socket_path.stat().st_ino == inode:
                    socket_path.unlink()


def _wait_for_lock(lock: int) -> None:
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                raise AlreadyServed from error
            time.sleep(0.1)
        else:
            return


class Server:
    """Serves one engine on one socket until it is idle or told to end."""

    def __init__(self, listener: socket.socket, idle_seconds: float) -> None:
        self._listener = listener
        self._idle_seconds = idle_seconds
        self._requests: queue.Queue[_Request] = queue.Queue()
        self._unloads = 0
        self._order = threading.Lock()
        self._ending = threading.Event()

    def end(self, *_: object) -> None:
        """Stop soon; also a signal handler."""
        self._ending.set()

    def serve(self, load_engine: Callable[[], Answering]) -> None:
        """Listen at once, then build the engine, then answer until idle for `idle_seconds` or ended."""
        signal.signal(signal.SIGTERM, self.end)
        signal.signal(signal.SIGINT, self.end)
        threading.Thread(target=self._accept, name="accept", daemon=True).start()
        engine = load_engine()
        last_used = time.monotonic()
        while not self._ending.is_set() and time.monotonic() - last_used < self._idle_seconds:
            with suppress(queue.Empty):
                request = self._requests.get(timeout=min(POLL_SECONDS, self._idle_seconds))
                with request.connection:
                    self._handle(engine, request)
                last_used = time.monotonic()
        log.info("The worker ends: %s.", "asked to" if self._ending.is_set() else "idle")

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return  # closed: the worker ends
            threading.Thread(target=self._read, args=(connection,), name="read", daemon=True).start()

    def _read(self, connection: socket.socket) -> None:
        """Read one command and queue it; a connection that closes without one was only a look whether we are up."""
        connection.settimeout(PEER_SECONDS)
        try:
            with connection.makefile("rb") as stream:
                line = stream.readline(LINE_BYTES)
            if not line.strip():
                connection.close()
                return
            command = _command.validate_json(line)
        except (OSError, ValidationError) as error:
            log.warning("A command could not be read: %s", error)
            connection.close()
            return
        with self._order:
            if isinstance(command, UnloadCommand):
                self._unloads += 1
            self._requests.put(_Request(connection, command, self._unloads))

    def _handle(self, engine: Answering, request: _Request) -> None:
        command = request.command
        if isinstance(command, UnloadCommand):
            engine.unload()
            self._send(request, ChatDelta(target="", finished=True))
            return

        def is_interrupted() -> bool:
            return self._ending.is_set() or self._unloads > request.unloads_before

        failure: ChatDelta | None = None
        broken = False
        try:
            if is_interrupted():
                raise Interrupted
            for delta in engine.answer(command, is_interrupted):
                if not self._send(request, delta):
                    return
        except Interrupted:
            failure = _failure(command, Conflict("device_needed").key, {})
        except AffinageError as error:
            failure = _failure(command, error.key, error.params)
        except Exception as error:
            # The request handler: whatever goes wrong with one answer must not end the worker.
            log.exception("An answer failed")
            key = engine.is_out_of_memory(error)
            failure = _failure(command, key or "internal", {} if key else {"log": _log_name()})
            broken = True
        if broken:
            engine.unload()  # after the exception is gone, whose traceback holds on to the model
        if failure:
            self._send(request, failure)

    @staticmethod
    def _send(request: _Request, delta: ChatDelta) -> bool:
        """Send one line; False when the client has gone away, which ends its answer."""
        try:
            request.connection.sendall(delta.model_dump_json().encode() + b"\n")
        except OSError:
            return False
        return True


def _failure(command: GenerateCommand, key: str, params: dict[str, object]) -> ChatDelta:
    texts = {name: str(value) for name, value in params.items()}
    return ChatDelta(target=command.target, finished=True, error_key=key, error_params=texts)


def _log_name() -> str:
    """Return the file that stderr goes to."""
    with suppress(OSError):
        return str(Path("/proc/self/fd/2").readlink())
    return "stderr"
