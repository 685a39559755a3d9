"""Run the real command in a process of its own, on a data folder of its own."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.forked import Parent


@dataclass(frozen=True)
class Outcome:
    """What a command printed and how it ended."""

    status: int
    stdout: str
    stderr: str

    @property
    def document(self) -> Any:
        """The one JSON document on stdout."""
        return json.loads(self.stdout)

    @property
    def lines(self) -> list[Any]:
        """The JSON documents on stdout, one a line."""
        return [json.loads(line) for line in self.stdout.splitlines()]


class Affinage:
    """The command on one data folder, without a network."""

    def __init__(self, data_dir: Path, commands: "Commands | None" = None, **environment: str) -> None:
        """`commands`: where to have processes forked that have imported the application; without it, each imports it."""
        self.data_dir = data_dir
        self._commands = commands
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("AFFINAGE_", "HF_", "LC_", "LANG"))}
        self.environment = {
            **kept,
            "AFFINAGE_DATA_DIR": str(data_dir),
            "AFFINAGE_TRACE_PLANS": "false",
            "AFFINAGE_INFERENCE_IDLE_SECONDS": "30",  # `affinage chat` leaves its worker to the next question
            "HF_HUB_OFFLINE": "1",
            "LC_ALL": "C.UTF-8",
            **environment,
        }

    def __call__(self, *arguments: str, seconds: float = 120, **environment: str) -> Outcome:
        """Run to the end."""
        environment = {**self.environment, **environment}
        if self._commands is not None:
            return self._commands.run(["app.cli", *arguments], environment, seconds)
        done = subprocess.run(
            [sys.executable, "-m", "app.cli", *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        return Outcome(done.returncode, done.stdout, done.stderr)


class Commands:
    """Runs commands in processes that are forked; see tests/forked.py."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._parent = Parent("command", folder / "commands.sock", Affinage(folder).environment)

    def run(self, module: list[str], environment: dict[str, str], seconds: float) -> Outcome:
        """Run to the end. Raise subprocess.TimeoutExpired."""
        printed, complained = self._folder / "stdout", self._folder / "stderr"
        with printed.open("wb") as output, complained.open("wb") as errors:
            process = self._parent.fork(module, environment, (output.fileno(), errors.fileno()))
        try:
            status = process.wait(seconds)
        finally:
            process.kill()
        return Outcome(status, printed.read_text(), complained.read_text())

    def close(self) -> None:
        """End the process that forks."""
        self._parent.close()
