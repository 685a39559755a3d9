"""A real PostgreSQL server of the tests' own: started once a process, on a Unix socket, an empty database for each test.

`make test` names the folder of its programs in AFFINAGE_TEST_POSTGRES (scripts/postgres.py finds or installs them).
"""

import ctypes
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psycopg

PROGRAMS = "AFFINAGE_TEST_POSTGRES"
DEBIAN = Path("/usr/lib/postgresql")
ACCOUNTS = ("postgres", "nobody")
"""PostgreSQL refuses to run as root; the first of these that exists is used instead."""
SETTINGS = {
    "listen_addresses": "",
    "fsync": "off",  # only speed: a test's server is never expected to survive the machine
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "60",
    "shared_buffers": "16MB",
    "autovacuum": "off",
}
START_SECONDS = 60
PR_SET_PDEATHSIG = 1
"""linux/prctl.h"""


def find_programs() -> Path | None:
    """Return the folder of initdb and pg_ctl, or None where the tests on PostgreSQL are to be left out."""
    named = os.environ.get(PROGRAMS)
    if named is not None:
        return None if named == "none" else Path(named)
    on_path = shutil.which("initdb")
    if on_path:
        return Path(on_path).parent
    versions = [path for path in DEBIAN.glob("*/bin/initdb") if path.parts[-3].isdecimal()]
    return max(versions, key=lambda path: int(path.parts[-3])).parent if versions else None


class PostgresServer:
    """One cluster in a folder of /tmp (a socket's path may have 107 characters at most)."""

    def __init__(self, programs: Path) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="affpg-", dir="/tmp"))
        self._programs = programs
        self._numbers = itertools.count(1)
        self._account = _account() if os.geteuid() == 0 else None
        if self._account is not None:
            os.chown(self._folder, self._account.pw_uid, self._account.pw_gid)
        data = str(self._folder / "data")
        self._call("initdb", "--pgdata", data, "--username", "affinage", "--auth", "trust", "--no-sync", "--encoding", "UTF8")
        options = [part for name, value in SETTINGS.items() for part in ("-c", f"{name}={value}")]
        self._process = subprocess.Popen(
            [str(programs / "postgres"), "-D", data, "-k", str(self._folder), *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=_end_with_parent,  # noqa: PLW1509  # no other thread of the tests holds a lock yet
            **self._as_account(),
        )
        self._wait()

    def create_database(self) -> str:
        """Return the SQLAlchemy URL of a new, empty database."""
        name = f"test{next(self._numbers)}"
        with self._connect() as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return f"postgresql+psycopg://affinage@/{name}?host={self._folder}"

    def drop_database(self, url: str) -> None:
        """Delete it, whoever is still connected."""
        with self._connect() as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {url.partition('@/')[2].partition('?')[0]} WITH (FORCE)")

    def execute(self, statement: str) -> None:
        """Run a statement in another database than the tests'."""
        with self._connect() as connection:
            connection.execute(statement)

    def close(self) -> None:
        """Stop the server and remove its folder."""
        self._process.terminate()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.send_signal(signal.SIGQUIT)  # PostgreSQL's immediate shutdown
            self._process.wait(timeout=30)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _wait(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                self._connect().close()
                return
            except psycopg.OperationalError:
                assert self._process.poll() is None and time.monotonic() < deadline, "PostgreSQL does not start"
                time.sleep(0.05)

    def _connect(self) -> psycopg.Connection:
        return psycopg.connect(host=str(self._folder), user="affinage", dbname="postgres", autocommit=True)

    def _call(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(self._programs / program), *arguments], capture_output=True, text=True, check=False, **self._as_account()
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def _as_account(self) -> dict[str, object]:
        if self._account is None:
            return {"cwd": self._folder}
        return {"cwd": self._folder, "user": self._account.pw_uid, "group": self._account.pw_gid, "extra_groups": []}


def _end_with_parent() -> None:
    """In the new process: be ended when the tests are killed (Linux only; elsewhere their `close` has to do)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGQUIT)


def _account() -> pwd.struct_passwd:
    for name in ACCOUNTS:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise AssertionError(f"PostgreSQL does not run as root, and none of the accounts {ACCOUNTS} exists")
