"""Servers and trainers that need no seconds of imports: see tests/forked.py.

What is forked is the real `app.main.serve` or `python -m app.training`. A later server does not know the exit codes of the
trainers of an earlier one, as in life.
"""

import os
from pathlib import Path

from app.jobs.executors.environment import trainer_environment
from app.jobs.executors.local import Child, LocalExecutor
from tests.api.test_live_server import LiveServer
from tests.forked import Forked, Parent

TRAINERS = "AFFINAGE_TEST_TRAINERS"
"""Environment variable of servers: where to ask for trainers."""


class WarmExecutor(LocalExecutor):
    """Asks for its trainers instead of starting them."""

    def spawn(self, command: list[str], lock: int, output: int) -> Child:
        return Forked(
            os.environ[TRAINERS], command[command.index("app.training") :], trainer_environment(), (output, output), lock
        )


class WarmServer(LiveServer):
    """A server that is forked by `warm`, and whose trainers are."""

    warm: "Warm"

    def spawn(self, output: Path | None = None) -> Forked:  # type: ignore[override]
        with (output or self.warm.folder / "servers.log").open("ab") as log:
            environment = {**self.environment, **self.warm.environment}
            return self.warm.servers.fork(["tests.faults.warm"], environment, (log.fileno(), log.fileno()))


class Warm:
    """The two processes that fork, as long as the tests need them."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        trainers = folder / "trainers.sock"
        self.environment = {**environment, TRAINERS: str(trainers)}
        self.servers = Parent("server", folder / "servers.sock", {**trainer_environment(), **self.environment})
        self.trainers = Parent("worker", trainers, {**trainer_environment(), **self.environment})
        self.trainers.wait_until_ready()

    def close(self) -> None:
        """End them; they end by themselves too when this process is killed."""
        self.servers.close()
        self.trainers.close()


def serve() -> None:
    """Serve as AFFINAGE_* say, with trainers that are forked too."""
    import app.jobs.supervisor
    from app.core.settings import Settings
    from app.main import serve

    app.jobs.supervisor.LocalExecutor = WarmExecutor  # type: ignore[misc]
    serve(Settings())


if __name__ == "__main__":
    serve()
