"""Processes that need no seconds of imports: one that has their code in memory forks one for each start.

What is forked runs the real module as `python -m` does, with the environment, descriptors and arguments that it was given; it
has a number of its own, and is killed, stopped and found like any other. Only the imports are left out. Who asked learns the
exit code, as of its own child.
"""

import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from app.jobs.executors.environment import trainer_environment

PRELOADED = {
    "server": ("app.main", "app.services.studio", "tests.api.test_live_server"),
    "command": ("app.main", "app.services.studio", "app.services.finetuning_service"),
    "worker": (
        "transformers.models.llama.modeling_llama",
        "app.training.engine",
        "app.training.rehearsal",
        "app.inference.engine",
        "app.export.packing",
    ),
}
"""What each kind of process has imported before it forks. A worker trains, answers or makes an export. A
command has not imported what prints: that looks at its environment then."""

Outputs = tuple[int, int]
"""Descriptors of standard output and standard error."""


class Forked:
    """A process that another one has forked for this one, as far as subprocess.Popen is used of it."""

    def __init__(self, address: str, module: list[str], environment: dict[str, str], outputs: Outputs, *kept: int) -> None:
        """`module`: its name and arguments; `kept`: descriptors that it inherits, under numbers of its own."""
        request = json.dumps({"module": module, "environment": environment}).encode()
        self._connection = socket.socket(socket.AF_UNIX)
        self._connection.connect(address)
        socket.send_fds(self._connection, [f"{len(request):08}".encode()], [*outputs, *kept])
        self._connection.sendall(request)
        self._read = b""
        while b"\n" not in self._read:
            received = self._connection.recv(64)
            if not received:
                raise ConnectionError(f"no process was forked for {module}")
            self._read += received
        number, _, self._read = self._read.partition(b"\n")
        self.pid = int(number)
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return its exit code (negative for a signal), None while it runs."""
        if self.returncode is None:
            if b"\n" not in self._read and select.select([self._connection], [], [], 0)[0]:
                self._read += self._connection.recv(64)
            if b"\n" in self._read:
                self.returncode = int(self._read)
                self._connection.close()
        return self.returncode

    def send_signal(self, kind: int) -> None:
        """Send a signal while it lives."""
        if self.poll() is None:
            os.kill(self.pid, kind)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code. Raise subprocess.TimeoutExpired."""
        deadline = time.monotonic() + (float("inf") if timeout is None else timeout)
        while (exit_code := self.poll()) is None:
            if timeout is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("forked", timeout)
            time.sleep(0.01)
        return exit_code


class Parent:
    """The process that forks others of one kind, as long as somebody needs it."""

    def __init__(self, kind: str, address: Path, environment: dict[str, str]) -> None:
        """Start it; `fork` waits until it has imported what they need."""
        self.address = str(address)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.forked", kind, self.address],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            cwd=Path(__file__).parents[1],
        )
        self._starting = threading.Lock()
        self._ready = False

    def fork(self, module: list[str], environment: dict[str, str], outputs: Outputs, *kept: int) -> Forked:
        """Return a new process that runs a module with arguments; see Forked."""
        self.wait_until_ready()
        return Forked(self.address, module, environment, outputs, *kept)

    def wait_until_ready(self) -> None:
        """Wait for its imports."""
        with self._starting:
            if not self._ready:
                assert self._process.stdout is not None
                assert self._process.stdout.readline() == b"ready\n"
                self._ready = True

    def close(self) -> None:
        """End it; it ends by itself too when this process is killed."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)


class Workers:
    """Trainers, chat workers and exports are forked while this is in force."""

    MODULES = ("app.training", "app.inference", "app.export")

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="affinage-workers-")
        self._parent: Parent | None = None

    @property
    def address(self) -> str:
        """Where the process that forks listens, once it is `in_force`."""
        assert self._parent is not None
        self._parent.wait_until_ready()
        return self._parent.address

    @contextmanager
    def in_force(self) -> Iterator[None]:
        """Let `subprocess.Popen` fork where it is asked for such a process in a session of its own."""
        if self._parent is None:
            self._parent = Parent(
                "worker", Path(self._folder.name) / "workers.sock", {**trainer_environment(), "OMP_NUM_THREADS": "1"}
            )
        usual = subprocess.Popen
        start = self.start

        class Popen(usual):  # type: ignore[type-arg, valid-type, misc]
            """Whatever else is asked for is started as usual."""

            def __new__(cls, args: Any, **options: Any) -> Any:
                command = args if isinstance(args, list) else []
                module = command[2:] if command[:2] == [sys.executable, "-m"] else []
                if module[:1] and module[0] in Workers.MODULES and options.get("start_new_session"):
                    return start(module, options)
                return super().__new__(cls)

        subprocess.Popen = Popen  # type: ignore[misc]
        try:
            yield
        finally:
            subprocess.Popen = usual  # type: ignore[misc]

    def start(self, module: list[str], options: dict[str, Any]) -> Forked:
        """Fork what `python -m MODULE ...` is, with these options of `Popen`."""
        assert self._parent is not None
        output, environment = options["stdout"], dict(options.get("env") or os.environ)
        descriptor = output if isinstance(output, int) else output.fileno()
        return self._parent.fork(module, environment, (descriptor, descriptor), *options.get("pass_fds", ()))

    def close(self) -> None:
        """End the process that forks."""
        if self._parent is not None:
            self._parent.close()
        self._folder.cleanup()


def fork_until_told(kind: str, address: str) -> None:
    """Fork a process for each connection; return when standard input is closed."""
    for name in PRELOADED[kind]:
        __import__(name)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen()
    print("ready", flush=True)
    children: dict[int, socket.socket] = {}
    while True:
        readable, _, _ = select.select([listener, sys.stdin], [], [], 0.01 if children else None)
        if sys.stdin in readable:
            return
        if listener in readable:
            connection, _ = listener.accept()
            head, descriptors, _, _ = socket.recv_fds(connection, 8, 8)
            request = json.loads(receive(connection, int(head)))
            pid = os.fork()
            if pid == 0:
                for other in (listener, connection, *children.values()):
                    other.close()
                become(request["module"], request["environment"], descriptors[:2])
            for descriptor in descriptors:
                os.close(descriptor)
            children[pid] = connection
            tell(connection, f"{pid}\n")
        for pid in list(children):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                connection = children.pop(pid)
                tell(connection, f"{os.waitstatus_to_exitcode(status)}\n")
                connection.close()


def receive(connection: socket.socket, size: int) -> bytes:
    """Return so many bytes."""
    found = b""
    while len(found) < size:
        found += connection.recv(size - len(found))
    return found


def tell(connection: socket.socket, text: str) -> None:
    """Send, unless who asked is gone."""
    try:
        connection.sendall(text.encode())
    except OSError:
        return


def become(module: list[str], environment: dict[str, str], outputs: list[int]) -> None:
    """Run a module as `python -m` does, in the child; never return."""
    code = 1
    try:
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for target, descriptor in enumerate(outputs, start=1):
            os.dup2(descriptor, target)
            os.close(descriptor)
        os.environ.clear()
        os.environ.update(environment)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        sys.argv = list(module)
        runpy.run_module(module[0], run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException as problem:
        print(f"{type(problem).__name__}: {problem}", flush=True)
        raise
    finally:
        sys.stdout.flush()
        os._exit(code)


if __name__ == "__main__":
    fork_until_told(*sys.argv[1:])
