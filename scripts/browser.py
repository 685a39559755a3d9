"""Find a Chromium for the end-to-end tests, or get one; print its path: `CHROMIUM_PATH=$(python scripts/browser.py)`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import node

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge")
MAC_PATHS = (
    Path("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"),
    Path("/Applications/Chromium.app/Contents/MacOS/Chromium"),
)


def find_installed() -> str | None:
    """Return CHROMIUM_PATH, or a browser on PATH, or a Mac application."""
    named = os.environ.get("CHROMIUM_PATH")
    if named:
        return named if Path(named).is_file() else None
    on_path = next((path for path in map(shutil.which, NAMES) if path), None)
    return on_path or next((str(path) for path in MAC_PATHS if path.exists()), None)


def find_downloaded() -> str | None:
    """Return the browser that Playwright keeps for the pinned version; None if it was never downloaded."""
    found = node.find_node()
    if found is None:
        return None
    script = 'process.stdout.write(require("playwright-core").chromium.executablePath())'
    answer = subprocess.run(
        [str(found), "-e", script],
        cwd=node.ROOT / "frontend",
        env=node.environment(found),
        capture_output=True,
        text=True,
        check=False,
    )
    return answer.stdout if answer.returncode == 0 and Path(answer.stdout).is_file() else None


def install_from_debian() -> None:
    """Install Debian's package where that is possible: as root, with apt-get."""
    if shutil.which("apt-get") and os.geteuid() == 0:
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "stdin": subprocess.DEVNULL}
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        print("  Installing Chromium with apt-get ...", file=sys.stderr)
        subprocess.run(["apt-get", "update", "-qq"], env=environment, check=False, **quiet)
        subprocess.run(
            ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "chromium"], env=environment, check=False, **quiet
        )


def download_with_playwright() -> None:
    """Let Playwright download the build that it is tested with."""
    found = node.find_node()
    if found is not None:
        print("  Downloading Chromium with Playwright ...", file=sys.stderr)
        cli = node.ROOT / "frontend" / "node_modules" / "playwright-core" / "cli.js"
        subprocess.run([str(found), str(cli), "install", "chromium"], env=node.environment(found), stdout=sys.stderr, check=False)


def main() -> int:
    """Print the path of a Chromium; 1 with advice when none can be had."""
    path = find_installed() or find_downloaded()
    if path is None and "CHROMIUM_PATH" not in os.environ:
        install_from_debian()
        path = find_installed()
        if path is None:
            download_with_playwright()
            path = find_downloaded()
    if path is None:
        print(
            "No Chromium for the end-to-end tests: install chromium or Google Chrome, or set CHROMIUM_PATH to one that exists.",
            file=sys.stderr,
        )
        return 1
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
