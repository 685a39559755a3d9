"""Servers and trainers that need no seconds of imports: a process that has their code in memory forks one for each start.

What is forked is the real `app.main.serve` or `app.training.__main__.main`, with the environment, lock and log that it was
given; it has a number of its own, and is killed, stopped and found like any other. Only the imports are left out. Who asked
learns the exit code, as of its own child; a later server does not know that of the trainers of an earlier one.
"""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from app.jobs.executors.environment import trainer_environment
from app.jobs.executors.local import Child, LocalExecutor
from tests.api.test_live_server import LiveServer

TRAINERS = "AFFINAGE_TEST_TRAINERS"
"""Environment variable of servers: where to ask for trainers."""


class Forked:
    """A process that another one has forked for this one, as far as subprocess.Popen is used of it."""

    def __init__(self, address: str, arguments: list[str], environment: dict[str, str], descriptors: list[int]) -> None:
        self._connection = socket.socket(socket.AF_UNIX)
        self._connection.connect(address)
        request = json.dumps({"arguments": arguments, "environment": environment}).encode()
        socket.send_fds(self._connection, [f"{len(request):08}".encode()], descriptors)
        self._connection.sendall(request)
        self._read = b""
        while b"\n" not in self._read:
            self._read += self._connection.recv(64)
        number, _, self._read = self._read.partition(b"\n")
        self.pid = int(number)
        self._exit_code: int | None = None

    def poll(self) -> int | None:
        """Return its exit code (negative for a signal), None while it runs."""
        if self._exit_code is None:
            if b"\n" not in self._read and select.select([self._connection], [], [], 0)[0]:
                self._read += self._connection.recv(64)
            if b"\n" in self._read:
                self._exit_code = int(self._read)
                self._connection.close()
        return self._exit_code

    def send_signal(self, kind: int) -> None:
        """Send a signal while it lives."""
        if self.poll() is None:
            os.kill(self.pid, kind)

    def wait(self, timeout: float) -> int:
        """Return the exit code. Raise subprocess.TimeoutExpired."""
        deadline = time.monotonic() + timeout
        while (exit_code := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("forked", timeout)
            time.sleep(0.01)
        return exit_code


class WarmExecutor(LocalExecutor):
    """Asks for its trainers instead of starting them."""

    def spawn(self, command: list[str], lock: int, output: int) -> Child:
        arguments = command[command.index("app.training") + 1 :]
        return Forked(os.environ[TRAINERS], arguments, {}, [output, lock])


class WarmServer(LiveServer):
    """A server that is forked by `warm`, and whose trainers are."""

    warm: "Warm"

    def spawn(self, output: Path | None = None) -> Forked:  # type: ignore[override]
        with (output or self.warm.folder / "servers.log").open("ab") as log:
            return Forked(self.warm.servers, [], self.environment, [log.fileno()])


class Warm:
    """The two processes that fork, as long as the tests need them."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.servers, self.trainers = str(folder / "servers.sock"), str(folder / "trainers.sock")
        base = {**trainer_environment(), **environment, TRAINERS: self.trainers}
        commands = [["server", self.servers], ["trainer", self.trainers]]
        self._processes = [
            subprocess.Popen(
                [sys.executable, "-m", "tests.faults.warm", *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=base,
                cwd=Path(__file__).parents[2],
            )
            for command in commands
        ]
        for process in self._processes:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"

    def close(self) -> None:
        """End them; they end by themselves too when this process is killed."""
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(timeout=30)


def fork_until_told(role: str, address: str) -> None:
    """Fork a process for each connection; return when standard input is closed."""
    load(role)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen()
    print("ready", flush=True)
    children: dict[int, socket.socket] = {}
    while True:
        readable, _, _ = select.select([listener, sys.stdin], [], [], 0.01)
        if sys.stdin in readable:
            return
        if listener in readable:
            connection, _ = listener.accept()
            head, descriptors, _, _ = socket.recv_fds(connection, 8, 2)
            request = json.loads(receive(connection, int(head)))
            pid = os.fork()
            if pid == 0:
                for other in (listener, connection, *children.values()):
                    other.close()
                become(role, request["arguments"], request["environment"], descriptors[0])
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


def load(role: str) -> None:
    """Import what such a process needs."""
    if role == "server":
        import app.main
        import app.services.studio

        return
    import transformers.models.llama.modeling_llama  # noqa: F401
    from transformers import AutoModelForCausalLM  # noqa: F401

    import app.training.__main__
    import app.training.engine
    import app.training.rehearsal  # noqa: F401


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


def become(role: str, arguments: list[str], environment: dict[str, str], output: int) -> None:
    """Be a server or a trainer, in the child; never return."""
    code = 1
    try:
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.environ.update(environment)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if role == "server":
            serve()
            code = 0
        else:
            from app.training.__main__ import main

            code = main(arguments)
    except BaseException as problem:
        print(f"{type(problem).__name__}: {problem}", flush=True)
        raise
    finally:
        sys.stdout.flush()
        os._exit(code)


def serve() -> None:
    """Serve as AFFINAGE_* say, with trainers that are forked too."""
    import app.jobs.supervisor
    from app.core.settings import Settings
    from app.main import serve

    app.jobs.supervisor.LocalExecutor = WarmExecutor  # type: ignore[misc]
    serve(Settings())


if __name__ == "__main__":
    fork_until_told(*sys.argv[1:])
