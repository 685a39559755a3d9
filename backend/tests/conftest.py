"""Plans of tests use the closed form: tracing starts a process that imports torch. Tests of tracing turn it on themselves.

Tests marked `both_databases` run twice: over SQLite, and over a real PostgreSQL that this process starts for itself.
"""

import os
from collections.abc import Iterator

import pytest

from tests.forked import Workers
from tests.postgres import PROGRAMS, PostgresServer, find_programs

os.environ["AFFINAGE_TRACE_PLANS"] = "false"
URL = "AFFINAGE_DATABASE_URL"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.definition.get_closest_marker("both_databases"):
        metafunc.parametrize("database_kind", ["sqlite", "postgresql"], indirect=True, scope="module")


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A running server; skipped where there is no PostgreSQL, or AFFINAGE_TEST_POSTGRES=none."""
    programs = find_programs()
    if programs is None:
        pytest.skip(f"no PostgreSQL: install it, or name the folder of initdb in {PROGRAMS}")
    server = PostgresServer(programs)
    yield server
    server.close()


@pytest.fixture(scope="module")
def database_kind(request: pytest.FixtureRequest) -> Iterator[str]:
    """`sqlite` or `postgresql`: what a Settings made in this module uses. Module-wide fixtures that open a database name it."""
    kind: str = getattr(request, "param", "sqlite")
    if kind == "sqlite":
        yield kind
        return
    yield from _over_new_database(request.getfixturevalue("postgres"), kind)


@pytest.fixture(autouse=True)
def own_database(database_kind: str, request: pytest.FixtureRequest) -> Iterator[None]:
    """Give each test over PostgreSQL an empty database; one over SQLite finds its own in its data folder."""
    if database_kind == "sqlite":
        yield
        return
    yield from (None for _ in _over_new_database(request.getfixturevalue("postgres"), database_kind))


def _over_new_database(server: PostgresServer, kind: str) -> Iterator[str]:
    before = os.environ.get(URL)
    os.environ[URL] = url = server.create_database()
    try:
        yield kind
    finally:
        if before is None:
            del os.environ[URL]
        else:
            os.environ[URL] = before
        server.drop_database(url)


@pytest.fixture(scope="session")
def workers() -> Iterator[Workers]:
    """What forks trainers, chat workers and exports for the modules that ask for it; starts nothing before."""
    made = Workers()
    yield made
    made.close()


@pytest.fixture(scope="module")
def warm(workers: Workers) -> Iterator[None]:
    """Let this module's trainers, chat workers and exports begin without their imports."""
    with workers.in_force():
        yield
