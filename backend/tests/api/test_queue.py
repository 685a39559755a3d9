"""The order of the queue, and jobs whose folder lies with another server of the same database."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from app.core.settings import Settings
from app.main import create_app
from app.storage.leases import Leases
from app.storage.repositories import Jobs
from tests.api.conftest import ADDRESS, FRENCH, check_error, dataset_id

pytestmark = pytest.mark.both_databases


@pytest.fixture
def idle(tmp_path: Path, tiny_model: Path) -> Iterator[TestClient]:
    """A server that starts no job: what is queued stays so."""
    settings = Settings(data_dir=tmp_path / "data", model_roots=str(tiny_model.parent), trace_plans=False)
    with TestClient(create_app(settings), base_url=ADDRESS) as made:
        made.app.state.studio.supervisor.stop()
        made.model = str(tiny_model)
        yield made


def start(server: TestClient, dataset: str) -> str:
    answer = server.post("/api/start-finetuning", json={"dataset_id": dataset, "model_name": server.model})
    assert answer.status_code == 201, answer.text
    job_id: str = answer.json()["job_id"]
    return job_id


def test_a_waiting_job_is_moved_to_the_front_and_starts_first(idle: TestClient) -> None:
    dataset = dataset_id(idle)
    first, second, third = (start(idle, dataset) for _ in range(3))

    def move(job_id: str, priority: int | str) -> int:
        answer = idle.put(f"/api/jobs/{job_id}/priority", json={"priority": priority})
        assert answer.status_code == 200, answer.text
        moved: int = answer.json()["priority"]
        return moved

    assert move(third, "next") == 1
    assert move(third, "next") == 1  # it is the next one already
    assert move(first, -4) == -4
    assert move(second, "next") == 2
    events = [event.kind for event in idle.app.state.studio.job_dir(third).read_events()]
    assert events.count("priority_changed") == 1
    assert {job["job_id"]: job["priority"] for job in idle.get("/api/jobs").json()["jobs"]} == {first: -4, second: 2, third: 1}
    studio = idle.app.state.studio
    started = []
    for _ in range(3):
        with studio.database.writing() as session:
            claimed = Leases(session, studio.supervisor.claimant).claim()
            started.append(claimed)
        with studio.database.writing() as session:  # its device is free again
            row = Jobs(session).lock(claimed)
            row.slot, row.status = None, "succeeded"
    assert started == [second, third, first]
    check_error(idle.put(f"/api/jobs/{first}/priority", json={"priority": "next"}), 409, "conflict")


def test_a_priority_that_is_none_is_refused(idle: TestClient) -> None:
    job_id = start(idle, dataset_id(idle))
    for wrong in (10_000_000, "first", None, 1.5):
        check_error(idle.put(f"/api/jobs/{job_id}/priority", json={"priority": wrong}), 422, "invalid")
    check_error(idle.put("/api/jobs/job-none/priority", json={"priority": 1}), 404, "not_found")


def test_a_job_in_a_folder_that_this_server_cannot_reach_is_shown_and_left_to_its_own_server(idle: TestClient) -> None:
    job_id = start(idle, dataset_id(idle))
    studio = idle.app.state.studio
    with studio.database.writing() as session:
        row = Jobs(session).lock(job_id)
        row.folder_id, row.host = "another", "far-away"
    assert [job["job_id"] for job in idle.get("/api/jobs").json()["jobs"]] == [job_id]
    assert idle.get(f"/api/jobs/{job_id}").json()["status"] == "queued"
    answers = [idle.post(f"/api/jobs/{job_id}/{move}") for move in ("cancel", "pause", "resume")]
    answers += [idle.get(f"/api/jobs/{job_id}/{part}") for part in ("checkpoints", "logs", "report", "exports")]
    answers += [idle.put(f"/api/jobs/{job_id}/priority", json={"priority": "next"}), idle.delete(f"/api/jobs/{job_id}")]
    for answer in answers:
        assert "far-away" in check_error(answer, 409, "conflict")["message"]
    french = check_error(idle.post(f"/api/jobs/{job_id}/cancel", headers=FRENCH), 409, "conflict")["message"]
    assert "far-away" in french and "se trouve" in french
    assert studio.job_dir(job_id).path.is_dir()


def test_checkpoints_may_be_limited_by_the_disk_they_take(idle: TestClient) -> None:
    body = {"dataset_id": dataset_id(idle), "model_name": idle.model}
    started = idle.post("/api/start-finetuning", json={**body, "checkpoints_bytes": 5_000_000, "checkpoints_kept": 9})
    job = idle.app.state.studio.job_dir(started.json()["job_id"]).read_job()
    assert (job.checkpoints_bytes, job.checkpoints_kept) == (5_000_000, 9)
    check_error(idle.post("/api/start-finetuning", json={**body, "checkpoints_bytes": 0}), 422, "invalid")
