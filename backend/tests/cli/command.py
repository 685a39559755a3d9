"""Run the real command in a process of its own, on a data folder of its own."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any


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

    def __init__(self, data_dir: Path, **environment: str) -> None:
        self.data_dir = data_dir
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("AFFINAGE_", "HF_", "LC_", "LANG"))}
        self.environment = {
            **kept,
            "AFFINAGE_DATA_DIR": str(data_dir),
            "AFFINAGE_TRACE_PLANS": "false",
            "HF_HUB_OFFLINE": "1",
            "LC_ALL": "C.UTF-8",
            **environment,
        }

    def __call__(self, *arguments: str, seconds: float = 120, **environment: str) -> Outcome:
        """Run to the end."""
        done = subprocess.run(
            [sys.executable, "-m", "app.cli", *arguments],
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        return Outcome(done.returncode, done.stdout, done.stderr)
