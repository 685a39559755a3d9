"""A server that asks for credentials, and one that is open to its own machine."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from app.core.settings import Settings
from app.main import create_app
from app.services.access_service import Access
from tests.api.conftest import ADDRESS

CANARY = "canary-5f2c9e1b"
"""Appears where something got out that must stay in."""


@dataclass(frozen=True)
class Guarded:
    """A server with access control, its door, a token, and a client that sends nothing of its own accord."""

    app: FastAPI
    access: Access
    token: str
    token_id: str
    client: TestClient

    @property
    def bearer(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Guarded]:
    app = create_app(Settings(data_dir=tmp_path / "data", require_token=True))
    access: Access = app.state.access
    record, token = access.create("a script", None)
    with TestClient(app, base_url=ADDRESS, raise_server_exceptions=False) as client:
        yield Guarded(app, access, token, record.id, client)


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[TestClient]:
    with TestClient(create_app(Settings(data_dir=tmp_path / "data")), base_url=ADDRESS, raise_server_exceptions=False) as client:
        yield client
