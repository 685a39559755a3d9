"""Pause, resume, continue after an end, checkpoints: the real server and the real trainer."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.core.settings import Settings
from app.main import create_app
from app.services import disk_budget
from app.storage.job_dir import JobDir
from tests.api.conftest import ADDRESS, check_error, dataset_id


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[TestClient]:
    settings = Settings(
        data_dir=tmp_path_factory.mktemp("control") / "data", model_roots=str(tiny_model.parent), trace_plans=False
    )
    with TestClient(create_app(settings), base_url=ADDRESS) as made:
        made.data_dir = settings.data_dir
        yield made


def wait_for(server: TestClient, job_id: str, *wanted: str, step: int = 0) -> dict[str, Any]:
    deadline = time.monotonic() + 200
    while True:
        job: dict[str, Any] = server.get(f"/api/jobs/{job_id}").json()
        if job["status"] in wanted and job["progress"]["step"] >= step:
            return job
        assert time.monotonic() < deadline and job["status"] not in ("failed", "cancelled"), job
        time.sleep(0.05)


def losses(server: TestClient, job_id: str) -> dict[int, float]:
    folder = JobDir(server.data_dir / "jobs" / job_id)
    return {event.step: event.loss for event in folder.read_events() if event.kind == "step_logged"}


def test_paused_resumed_cancelled_and_continued_a_job_learns_what_it_would_have_learned(
    server: TestClient, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = {"dataset_id": dataset_id(server), "model_name": str(tiny_model), "batch_size": 2, "num_epochs": 3}
    body |= {"gradient_accumulation_steps": 1, "checkpoint_every_steps": 3, "lora_dropout": 0.1, "checkpoints_kept": 2}
    body |= {"report_rows": 0}
    job_id = server.post("/api/start-finetuning", json=body).json()["job_id"]
    assert server.post(f"/api/jobs/{job_id}/resume").status_code == 200  # not paused: nothing changes
    wait_for(server, job_id, "running", step=4)
    trainer = JobDir(server.data_dir / "jobs" / job_id).find_process()
    assert trainer is not None
    os.kill(trainer.pid, signal.SIGUSR1)  # as the watchdog does where a trainer stalls: its stacks, and it goes on
    assert server.post(f"/api/jobs/{job_id}/pause").json()["status"] in ("pausing", "paused")
    wait_for(server, job_id, "paused")
    assert server.post(f"/api/jobs/{job_id}/pause").json()["status"] == "paused"
    assert "most recent call first" in server.get(f"/api/jobs/{job_id}/logs").json()["text"]
    detail = server.get(f"/api/jobs/{job_id}").json()
    assert detail["worked_seconds"] > 0 and detail["working_since"] is None  # the time of a pause does not count
    paused_at = server.get(f"/api/jobs/{job_id}/checkpoints").json()["checkpoints"]
    assert paused_at[0]["kept_for"] == ["paused"] and all(one["whole"] for one in paused_at)
    check_error(server.post("/api/start-finetuning", json={**body, "resume_from": {"job_id": job_id}}), 409, "conflict")

    assert server.post(f"/api/jobs/{job_id}/resume").json()["status"] == "queued"
    wait_for(server, job_id, "running", step=paused_at[0]["step"] + 10)
    server.post(f"/api/jobs/{job_id}/cancel")
    deadline = time.monotonic() + 100
    while server.get(f"/api/jobs/{job_id}").json()["status"] != "cancelled":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    for move in ("pause", "resume"):
        check_error(server.post(f"/api/jobs/{job_id}/{move}"), 409, "conflict")
    left = server.get(f"/api/jobs/{job_id}/checkpoints").json()["checkpoints"]
    assert paused_at[0]["name"] in [one["name"] for one in left] and len(left) <= 3

    start = {"dataset_id": body["dataset_id"], "model_name": body["model_name"], "resume_from": {"job_id": job_id}}
    check_error(server.post("/api/start-finetuning", json={**start, "learning_rate": 0.5}), 422, "invalid")
    missing = {**start, "resume_from": {"job_id": job_id, "checkpoint": "checkpoint-999"}}
    check_error(server.post("/api/start-finetuning", json=missing), 404, "not_found")
    monkeypatch.setattr(disk_budget, "RESERVE_BYTES", 1 << 60)
    check_error(server.post("/api/start-finetuning", json=start), 507, "disk_full")
    monkeypatch.undo()
    with_key = [server.post("/api/start-finetuning", json=start, headers={"Idempotency-Key": "again"}) for _ in range(2)]
    second = with_key[0].json()["job_id"]
    assert with_key[1].json()["job_id"] == second
    whole = server.post("/api/start-finetuning", json=body).json()["job_id"]
    for one in (second, whole):
        wait_for(server, one, "succeeded")
    expected = losses(server, whole)
    assert losses(server, job_id).items() <= expected.items()
    assert min(losses(server, second)) == left[0]["step"] + 1
    assert losses(server, second).items() <= expected.items() and max(losses(server, second)) == max(expected)
    ends = [server.get(f"/api/jobs/{one}/report").json()["loss_after"] for one in (second, whole)]
    assert ends[0] == ends[1]
