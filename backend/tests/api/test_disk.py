"""What takes the disk, and deleting what can go."""

import os
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from app.contracts.export import ExportState
from app.core.settings import Settings
from app.services.disk_service import count_bytes
from app.storage.export_dir import ExportDir
from app.storage.job_dir import utc_now
from app.storage.model_store import EMBEDDED_ID
from tests.api.conftest import check_error, dataset_id


@pytest.fixture
def weights(settings: Settings) -> Path:
    """Put weights of a hub model where the studio keeps them."""
    folder = settings.data_dir / "models" / "hub" / "acme--tiny" / ("a" * 40)
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"w" * 5000)
    return folder


@pytest.fixture
def waiting(client: TestClient) -> str:
    """Return a job that stays in the queue: nobody starts it."""
    client.app.state.studio.supervisor.stop()  # type: ignore[attr-defined]
    body = {"dataset_id": dataset_id(client), "model_name": EMBEDDED_ID, "num_epochs": 1}
    started = client.post("/api/start-finetuning", json=body)
    assert started.status_code == 201, started.text
    job_id: str = started.json()["job_id"]
    return job_id


def test_a_file_with_two_names_counts_once_and_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "one").write_bytes(b"x" * 1000)
    os.link(tmp_path / "a" / "one", tmp_path / "two")
    (tmp_path / "link").symlink_to("/usr")
    assert count_bytes(tmp_path, set()) == 1000 + (tmp_path / "link").lstat().st_size


def test_weights_are_listed_deleted_and_unknown_ones_not_found(client: TestClient, weights: Path) -> None:
    before = client.get("/api/disk").json()
    assert before["models"] == [{"model_id": "acme/tiny", "bytes": 5000, "running_jobs": 0, "finished_jobs": 0}]
    assert before["parts"]["models"] == 5000 and 0 < before["free_bytes"] <= before["total_bytes"]
    assert client.delete("/api/disk/models/acme/tiny").status_code == 204
    assert not weights.exists() and client.get("/api/disk").json()["models"] == []
    check_error(client.delete("/api/disk/models/acme/tiny"), 404, "not_found")
    check_error(client.delete("/api/disk/models/..%2F..%2Fjobs"), 404, "not_found")


def test_what_an_unfinished_job_needs_stays(client: TestClient, settings: Settings, waiting: str) -> None:
    folder = settings.data_dir / "models" / "embedded" / Path(EMBEDDED_ID).name
    folder.mkdir(parents=True, exist_ok=True)
    check_error(client.delete(f"/api/disk/models/{EMBEDDED_ID}"), 409, "conflict")
    check_error(client.delete(f"/api/jobs/{waiting}/checkpoints"), 409, "conflict")
    (listed,) = client.get("/api/disk").json()["jobs"]
    assert listed["job_id"] == waiting and not listed["deletable"] and listed["bytes"] > 0


def test_weights_stay_while_a_job_is_exported_with_them(client: TestClient, settings: Settings, waiting: str) -> None:
    """They went, and the exports that ran and waited failed with what they then met."""
    client.post(f"/api/jobs/{waiting}/cancel")
    folder = settings.data_dir / "models" / "embedded" / Path(EMBEDDED_ID).name
    folder.mkdir(parents=True, exist_ok=True)
    exports = ExportDir(settings.data_dir / "jobs" / waiting)
    exports.write_state(ExportState(format="gguf-q8_0", status="queued", created_at=utc_now()))

    answer = client.delete(f"/api/disk/models/{EMBEDDED_ID}")

    check_error(answer, 409, "conflict")
    assert waiting in answer.text and "gguf-q8_0" in answer.text and folder.is_dir()
    (model,) = client.get("/api/disk").json()["models"]
    assert model["running_jobs"] == 1, "the page offers no deletion"
    exports.write_state(ExportState(format="gguf-q8_0", status="succeeded", created_at=utc_now()))
    assert client.delete(f"/api/disk/models/{EMBEDDED_ID}").status_code == 204 and not folder.exists()


def test_checkpoints_of_an_ended_job_go_and_its_adapter_stays(client: TestClient, settings: Settings, waiting: str) -> None:
    job_id = waiting
    assert client.post(f"/api/jobs/{job_id}/cancel").json()["status"] == "cancelled"
    folder = settings.data_dir / "jobs" / job_id
    for path, size in (("checkpoints/checkpoint-3/adapter.safetensors", 700), ("adapter/adapter_model.safetensors", 300)):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(b"c" * size)
    (listed,) = client.get("/api/disk").json()["jobs"]
    assert listed["deletable"] and listed["checkpoint_bytes"] == 700
    assert client.delete(f"/api/jobs/{job_id}/checkpoints").status_code == 204
    assert not (folder / "checkpoints").exists() and (folder / "adapter" / "adapter_model.safetensors").is_file()
    assert client.get("/api/disk").json()["jobs"][0]["checkpoint_bytes"] == 0
    assert client.delete(f"/api/jobs/{job_id}/checkpoints").status_code == 204, "repeating it changes nothing"
    check_error(client.delete("/api/jobs/job-unknown/checkpoints"), 404, "not_found")
