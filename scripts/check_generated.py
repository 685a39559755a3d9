"""Fail when a generated file is not what its generator writes now. Works in a tree with other uncommitted changes."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = (("scripts/node.py", "npm", "run", "gen", "--silent"), ("scripts/gen_reference.py",))
"""What `make gen` does after setup: a check installs nothing."""
GENERATED = ("frontend/openapi.json", "frontend/src/types/api.gen.ts", "frontend/src/types/limits.gen.ts", "docs/reference")


def snapshot() -> dict[str, str]:
    """Return a hash per generated file."""
    files: list[Path] = []
    for name in GENERATED:
        path = ROOT / name
        files += [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
    return {str(path.relative_to(ROOT)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def main() -> int:
    """Write them anew and compare; 1 and the list when a file changed."""
    before = snapshot()
    for command in COMMANDS:
        if subprocess.run([sys.executable, *command], cwd=ROOT, check=False).returncode:
            return 1
    after = snapshot()
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    for name in changed:
        print(f"  {name} was not what `make gen` writes; it is now. Commit it.", file=sys.stderr)
    return 1 if changed else 0


if __name__ == "__main__":
    sys.exit(main())
