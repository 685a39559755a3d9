"""`make page`: build the web page into frontend/dist, unless the last build was made from the same files."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import time
from pathlib import Path

import node

FRONTEND = Path(__file__).resolve().parent.parent / "frontend"
DIST = FRONTEND / "dist"
STAMP = FRONTEND / "node_modules" / ".affinage-page"
NOT_IN_THE_BUILD = ("node_modules", "dist", "e2e", "test-results", "playwright-report")


def digest() -> str:
    """Return one hash over every file that the build reads."""
    sha = hashlib.sha256()
    for path in sorted(FRONTEND.rglob("*")):
        if path.relative_to(FRONTEND).parts[0] not in NOT_IN_THE_BUILD and path.is_file():
            sha.update(str(path.relative_to(FRONTEND)).encode() + b"\0" + path.read_bytes())
    return sha.hexdigest()


def main() -> int:
    """Build if needed; return npm's exit status."""
    wanted = digest()
    if (DIST / "index.html").is_file() and STAMP.is_file() and STAMP.read_text() == wanted:
        print("  The page is up to date.")
        return 0
    found = node.find_node()
    if found is None:
        print("  Node is not set up yet: run `make setup`.", file=sys.stderr)
        return 1
    began = time.monotonic()
    command = [*node.npm_command(found), "run", "build", "--silent"]
    built = subprocess.run(command, cwd=FRONTEND, env=node.environment(found), capture_output=True, text=True, check=False)
    if built.returncode:
        print(built.stdout + built.stderr + "\n  The page could not be built.", file=sys.stderr)
        return built.returncode
    STAMP.write_text(wanted)
    print(f"  Built the page in {time.monotonic() - began:.0f} s.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
