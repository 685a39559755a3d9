"""Find the programs of a PostgreSQL server for the tests, or install them; print their folder.

The tests start and stop a server of their own with them (backend/tests/postgres.py); no running one is touched.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

NAME = "AFFINAGE_TEST_POSTGRES"
"""Environment variable: the folder of initdb and pg_ctl; `none` leaves the tests on PostgreSQL out."""
DEBIAN = Path("/usr/lib/postgresql")
MAC_FOLDERS = (Path("/opt/homebrew/opt"), Path("/usr/local/opt"))


def find_installed() -> Path | None:
    """Return the folder of initdb and pg_ctl: on PATH, of Debian's newest version, or of Homebrew's."""
    on_path = shutil.which("initdb")
    candidates = [Path(on_path).resolve().parent] if on_path else []
    versions = [path for path in DEBIAN.glob("*") if path.name.isdecimal()]
    candidates += [path / "bin" for path in sorted(versions, key=lambda path: int(path.name), reverse=True)]
    candidates += [path / "bin" for folder in MAC_FOLDERS for path in sorted(folder.glob("postgresql*"), reverse=True)]
    return next((path for path in candidates if (path / "initdb").exists() and (path / "pg_ctl").exists()), None)


def install_from_debian() -> None:
    """Install Debian's package where that is possible: as root, with apt-get. Its own server is not started."""
    if not shutil.which("apt-get") or os.geteuid() != 0:
        return
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "stdin": subprocess.DEVNULL}
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    settings = Path("/etc/postgresql-common")
    settings.mkdir(parents=True, exist_ok=True)
    if not (settings / "createcluster.conf").exists():
        (settings / "createcluster.conf").write_text("create_main_cluster = false\n")
    print("  Installing PostgreSQL with apt-get ...", file=sys.stderr)
    subprocess.run(["apt-get", "update", "-qq"], env=environment, check=False, **quiet)
    install = [
        "apt-get",
        "install",
        "-y",
        "-qq",
        "--no-install-recommends",
        "-o",
        "Dpkg::Options::=--force-confold",
        "postgresql",
    ]
    subprocess.run(install, env=environment, check=False, **quiet)


def main() -> int:
    """Print the folder; 1 with advice when there is none."""
    named = os.environ.get(NAME)
    if named:
        print(named)
        return 0
    found = find_installed()
    if found is None:
        install_from_debian()
        found = find_installed()
    if found is None:
        print(
            "No PostgreSQL for the tests: install it (Debian: apt install postgresql, macOS: brew install postgresql), or"
            f" run `make test {NAME}=none` to leave these tests out.",
            file=sys.stderr,
        )
        return 1
    print(found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
