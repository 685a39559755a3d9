"""The real application over a fresh data folder, and a tiny real model that it may use."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.core.settings import Settings
from app.main import create_app

ADDRESS = "http://localhost:8000"
FRENCH = {"Accept-Language": "fr-FR,fr;q=0.9"}
QUESTIONS = "".join(f"What is the code of box {n}?,The code of box {n} is {n * 7 % 90 + 10}.\n" for n in range(1, 61))
CSV = "question,answer\n" + QUESTIONS


@pytest.fixture(scope="module", autouse=True)
def warm_by_default(warm: None) -> None:
    """Servers within this process; those of test_live_server.py start their processes as users' do."""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", stop_grace_seconds=2.0, inference_idle_seconds=60.0)


@pytest.fixture
def client(settings: Settings) -> Iterator[TestClient]:
    with TestClient(create_app(settings), base_url=ADDRESS, raise_server_exceptions=False) as made:
        yield made


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.engine.tiny import write_llama

    return write_llama(tmp_path_factory.mktemp("models") / "tiny-llama")


def upload(client: Any, content: str | bytes = CSV, filename: str = "boxes.csv", **fields: str) -> Any:
    data = content.encode() if isinstance(content, str) else content
    return client.post("/api/datasets", files={"file": (filename, data)}, data=fields)


def dataset_id(client: Any) -> str:
    answer = upload(client)
    assert answer.status_code == 201, answer.text
    found: str = answer.json()["dataset_id"]
    return found


def check_error(answer: Any, status_code: int, code: str) -> dict[str, Any]:
    """Assert the house body and return the error."""
    assert answer.status_code == status_code, answer.text
    body = answer.json()
    assert set(body) == {"error"} and set(body["error"]) == {"code", "message", "hint", "details"}
    assert body["error"]["code"] == code
    assert body["error"]["message"] and "{" not in body["error"]["message"]
    error: dict[str, Any] = body["error"]
    return error
