"""Downloads over HTTP, from a real hub server on loopback."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.api.conftest import FRENCH, check_error
from tests.hub.server import HubServer

WEIGHTS = bytes(range(256)) * 8192  # 2 MiB
MODEL: dict[str, bytes | Path] = {
    "config.json": b'{"model_type": "gpt2"}',
    "model.safetensors": WEIGHTS,
    "tokenizer.json": b"{}",
}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    with HubServer() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf-home"))
        for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_CACHE"):
            monkeypatch.delenv(name, raising=False)
        yield server


def follow(client: TestClient, model_id: str) -> list[dict[str, Any]]:
    """Return what the download said until it ended."""
    said: list[dict[str, Any]] = []
    deadline = time.monotonic() + 120
    while not said or said[-1]["state"] == "running":
        assert time.monotonic() < deadline
        said.append(client.get(f"/api/models/{model_id}/download").json())
        time.sleep(0.05)
    return said


def test_a_download_shows_its_progress_and_happens_once(client: TestClient, hub: HubServer) -> None:
    hub.add("org/small", MODEL)
    hub.bytes_per_second = 2 * len(WEIGHTS)
    assert client.get("/api/models/org/small/download").json()["state"] == "idle"
    first = client.post("/api/models/org/small/download")
    assert (first.status_code, first.json()["state"]) == (202, "running")
    assert client.post("/api/models/org/small/download").json()["state"] == "running"
    said = follow(client, "org/small")
    assert said[-1]["state"] == "done"
    done = [step["done_bytes"] for step in said if step["state"] == "running"]
    assert done == sorted(done) and 0 < max(done) <= sum(len(content) for content in MODEL.values())
    fetched = [request for request in hub.requests if request.method == "GET" and "model.safetensors" in request.path]
    assert len(fetched) == 1
    assert client.post("/api/models/org/small/download").json()["state"] == "done"


def test_a_download_that_breaks_off_says_why_in_the_readers_language_and_can_be_repeated(
    client: TestClient, hub: HubServer
) -> None:
    hub.add("org/small", MODEL)
    hub.cuts["model.safetensors"] = [1000] * 50
    client.post("/api/models/org/small/download")
    assert follow(client, "org/small")[-1]["state"] == "failed"
    french = client.get("/api/models/org/small/download", headers=FRENCH).json()
    assert french["error"]["code"] == "hub_unreachable" and "téléchargement" in french["error"]["message"].lower()
    hub.cuts.clear()
    client.post("/api/models/org/small/download")
    assert follow(client, "org/small")[-1]["state"] == "done"


def test_a_model_that_the_hub_does_not_know_is_refused_before_anything_starts(client: TestClient, hub: HubServer) -> None:
    check_error(client.post("/api/models/org/nobody/download"), 409, "model_unavailable")
