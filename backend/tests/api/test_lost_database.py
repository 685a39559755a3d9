"""A PostgreSQL server that goes away and comes back, and two servers that make its tables at once."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.engine import make_url

from app.core.settings import Settings
from app.main import create_app
from app.storage.migrate import current_revision, upgrade
from tests.api.conftest import ADDRESS, check_error
from tests.postgres import PostgresServer


@pytest.fixture
def url(postgres: PostgresServer) -> Iterator[str]:
    made = postgres.create_database()
    yield made
    postgres.drop_database(made)


def test_while_the_database_does_not_answer_requests_get_503_and_afterwards_all_is_well(
    postgres: PostgresServer, url: str, tmp_path: Path
) -> None:
    settings = Settings(data_dir=tmp_path / "data", database_url=url)
    name = make_url(url).database
    with TestClient(create_app(settings), base_url=ADDRESS, raise_server_exceptions=False) as client:
        assert client.get("/api/jobs").json() == {"jobs": []}
        postgres.execute(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false")
        postgres.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
        answer = client.get("/api/jobs")
        assert check_error(answer, 503, "busy")["message"] == "The database does not answer."
        assert answer.headers["Retry-After"] == "5"
        postgres.execute(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS true")
        assert client.get("/api/jobs").json() == {"jobs": []}


def test_servers_with_folders_of_their_own_that_make_the_tables_at_once_wait_for_each_other(url: str, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("first", "second", "third")]
    for folder in folders:
        folder.mkdir()
    with ThreadPoolExecutor(len(folders)) as servers:
        list(servers.map(lambda folder: upgrade(url, folder), folders))
    assert current_revision(url) is not None
