"""The worker's socket: takes commands, answers those that go together at once, frees the model when asked, ends when idle.

A small thread per connection reads its one line; the main thread, which alone touches the model, works through the
queue in order. A command joins the answers that are being written when the engine says so (same model, room left);
otherwise it waits until they have ended, and those behind it wait too. An unload overtakes the queue: answers that are
running or waiting at that moment end with `conflict.device_needed`.
"""

import fcntl
import logging
import os
import queue
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Generic, Protocol, TypeVar

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
A = TypeVar("A")
"""An answer that is being written, as the engine knows it."""
PEER_SECONDS = 10.0
"""A client that neither sends its command nor takes its answer for so long is dropped."""
LOCK_SECONDS = 10.0
"""How long a predecessor may take to go away."""
POLL_SECONDS = 0.25
TAKE_SECONDS = 0.02
"""Answers that begin are let in for so long before the others go on."""


class Interrupted(Exception):
    """The device is needed for something else."""


class Answering(Protocol[A]):
    """What the server needs of engine.Engine; so that it can listen before torch is imported."""

    def can_join(self, command: GenerateCommand) -> bool:
        """Whether `start` may be called beside the answers that are being written."""
        ...

    def start(self, command: GenerateCommand, is_interrupted: Callable[[], bool]) -> A:
        """Begin an answer; raise Interrupted soon after `is_interrupted()` turns true."""
        ...

    def step(self) -> list[tuple[A, ChatDelta]]:
        """Write a token of every answer; return what there is to tell."""
        ...

    def drop(self, answer: A) -> None:
        """Stop writing an answer."""
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
        self.idle_seconds = idle_seconds
        self.requests: queue.Queue[_Request] = queue.Queue()
        self.unloads = 0
        self._order = threading.Lock()
        self.ending = threading.Event()

    def end(self, *_: object) -> None:
        """Stop soon; also a signal handler."""
        self.ending.set()

    def serve(self, load_engine: Callable[[], Answering[A]]) -> None:
        """Listen at once, then build the engine, then answer until idle for `idle_seconds` or ended."""
        signal.signal(signal.SIGTERM, self.end)
        signal.signal(signal.SIGINT, self.end)
        threading.Thread(target=self._accept, name="accept", daemon=True).start()
        _Round(self, load_engine()).work()
        log.info("The worker ends: %s.", "asked to" if self.ending.is_set() else "idle")

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
                self.unloads += 1
            self.requests.put(_Request(connection, command, self.unloads))


class _Round(Generic[A]):
    """The main thread's work: who is being answered, and who waits for them."""

    def __init__(self, server: Server, engine: Answering[A]) -> None:
        self._server = server
        self._engine = engine
        self._running: dict[A, _Request] = {}
        self._held: _Request | None = None
        """The next in the queue, which cannot join those that are being answered."""

    def work(self) -> None:
        """Answer until idle or ended."""
        last_used = time.monotonic()
        while not self._server.ending.is_set() and time.monotonic() - last_used < self._server.idle_seconds:
            taking_until = time.monotonic() + TAKE_SECONDS
            while (request := self._next()) is not None:
                self._take(request)
                last_used = time.monotonic()
                if self._held is not None or last_used > taking_until:
                    break
            if self._running:
                self._step()
                last_used = time.monotonic()
        for request in [*self._running.values(), *([self._held] if self._held else [])]:
            self._end(request, Conflict("device_needed").key)

    def _next(self) -> _Request | None:
        """Return the next request, without waiting while answers are being written."""
        held, self._held = self._held, None
        if held is not None:
            return held
        with suppress(queue.Empty):
            if self._running:
                return self._server.requests.get_nowait()
            return self._server.requests.get(timeout=min(POLL_SECONDS, self._server.idle_seconds))
        return None

    def _is_interrupted(self, request: _Request) -> bool:
        return self._server.ending.is_set() or self._server.unloads > request.unloads_before

    def _take(self, request: _Request) -> None:
        """Begin an answer, or hold it back; free the model."""
        command = request.command
        if isinstance(command, UnloadCommand):
            self._interrupt(list(self._running.items()))
            self._engine.unload()
            with request.connection:
                _send(request, ChatDelta(target="", finished=True))
        elif self._is_interrupted(request):
            self._end(request, Conflict("device_needed").key)
        elif not self._engine.can_join(command):
            self._held = request
        else:
            with self._reporting([request]):
                answer = self._engine.start(command, lambda: self._is_interrupted(request))
                self._running[answer] = request

    def _step(self) -> None:
        """Write one token of each answer, tell it, and let go of those that ended."""
        self._interrupt([(answer, request) for answer, request in self._running.items() if self._is_interrupted(request)])
        told: Sequence[tuple[A, ChatDelta]] = []
        with self._reporting(list(self._running.values())):
            told = self._engine.step()
        for answer, delta in told:
            request = self._running.get(answer)
            if request is None:
                continue
            heard = _send(request, delta)
            if not heard and not delta.finished:
                self._engine.drop(answer)
            if delta.finished or not heard:
                del self._running[answer]
                request.connection.close()

    def _interrupt(self, some: list[tuple[A, _Request]]) -> None:
        for answer, request in some:
            self._engine.drop(answer)
            del self._running[answer]
            self._end(request, Conflict("device_needed").key)

    @contextmanager
    def _reporting(self, concerned: list[_Request]) -> Iterator[None]:
        """Tell those who are concerned why the work for them failed."""
        broken = False
        try:
            yield
        except Interrupted:
            for request in concerned:
                self._end(request, Conflict("device_needed").key)
        except AffinageError as error:
            for request in concerned:
                self._end(request, error.key, error.params)
        except Exception as error:
            # The request handler: whatever goes wrong with one answer must not end the worker.
            log.exception("An answer failed")
            key = self._engine.is_out_of_memory(error)
            concerned += [request for request in self._running.values() if request not in concerned]
            for request in concerned:
                self._end(request, key or "internal", {} if key else {"log": _log_name()})
            broken = True
        if broken:
            self._running.clear()
            self._engine.unload()  # after the exception is gone, whose traceback holds on to the model

    @staticmethod
    def _end(request: _Request, key: str, params: dict[str, object] | None = None) -> None:
        assert isinstance(request.command, GenerateCommand), "an unload has no answer that could fail"
        texts = {name: str(value) for name, value in (params or {}).items()}
        with request.connection:
            _send(request, ChatDelta(target=request.command.target, finished=True, error_key=key, error_params=texts))


def _send(request: _Request, delta: ChatDelta) -> bool:
    """Send one line; False when the client has gone away, which ends its answer."""
    try:
        request.connection.sendall(delta.model_dump_json().encode() + b"\n")
    except OSError:
        return False
    return True


def _log_name() -> str:
    """Return the file that stderr goes to."""
    with suppress(OSError):
        return str(Path("/proc/self/fd/2").readlink())
    return "stderr"
