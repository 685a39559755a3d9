"""A running job holds its own rows: whatever happens to its data set meanwhile, it learns what it was started with."""

import hashlib
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from app.contracts.events import EvalLogged, StepLogged
from app.core.settings import Settings
from app.main import create_app
from app.services.studio import Studio
from app.storage.job_dir import JobDir
from tests.api.conftest import ADDRESS, check_error, dataset_id
from tests.api.test_jobs import wait_for

PATIENCE_SECONDS = 120.0
LEAST_STEPS = 200
"""So many at least: what happens in the middle of a run must have a middle."""


@pytest.fixture
def server(tmp_path: Path, tiny_model: Path) -> Iterator[TestClient]:
    settings = Settings(data_dir=tmp_path / "data", model_roots=str(tiny_model.parent))
    with TestClient(create_app(settings), base_url=ADDRESS) as client:
        yield client


def start(server: TestClient, model: Path, dataset: str) -> JobDir:
    body = {"dataset_id": dataset, "model_name": str(model), "num_epochs": 20, "batch_size": 4, "gradient_accumulation_steps": 1}
    body |= {
        "lora_dropout": 0.1,
        "checkpoint_every_steps": 20,
        "report_rows": 1,
        "seed": 3,
        "keep_best": False,
        "early_stopping": 0,
    }
    answer = server.post("/api/start-finetuning", json=body)
    assert answer.status_code == 201, answer.text
    return studio_of(server).job_dir(answer.json()["job_id"])


def studio_of(server: TestClient) -> Studio:
    studio: Studio = server.app.state.studio  # type: ignore[attr-defined]
    return studio


def read_losses(job_dir: JobDir) -> dict[tuple[str, int], set[float]]:
    """Return every loss by kind and step: two where two attempts disagree."""
    losses: dict[tuple[str, int], set[float]] = {}
    for event in job_dir.read_events():
        if isinstance(event, StepLogged | EvalLogged):
            losses.setdefault((event.kind, event.step), set()).add(event.loss)
    return losses


def wait_for_step(job_dir: JobDir, step: int) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not any(isinstance(event, StepLogged) and event.step >= step for event in job_dir.read_events()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def hashes(folder: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}


def test_a_data_set_that_is_changed_and_removed_during_a_run_changes_nothing_that_is_trained(
    server: TestClient, tiny_model: Path
) -> None:
    undisturbed = start(server, tiny_model, dataset_id(server))
    wait_for(server, undisturbed.path.name, "succeeded")
    expected = read_losses(undisturbed)
    assert len(expected) > LEAST_STEPS and all(len(values) == 1 for values in expected.values())

    used = dataset_id(server)
    job_dir = start(server, tiny_model, used)
    wait_for_step(job_dir, 25)
    folder = studio_of(server).dataset_dir(used)
    for own, theirs in ((job_dir.train_file, folder.train_file), (job_dir.heldout_file, folder.heldout_file)):
        assert own.samefile(theirs) and own.stat().st_nlink >= 2, "a link takes no room"
    held = hashes(job_dir.path / "data")

    check_error(server.delete(f"/api/datasets/{used}"), 409, "conflict")
    assert server.delete(f"/v1/files/{used}").status_code == 400, "as OpenAI's clients expect a refusal"
    swapped = {"shape": "question_answer", "instruction": "answer", "output": "question"}
    changed = server.put(f"/api/datasets/{used}/mapping", json=swapped)
    assert changed.status_code == 200, changed.text
    assert changed.json()["dataset_id"] != used, "what a job has used is kept: another mapping is another version"
    assert hashes(job_dir.path / "data") == held

    aside = folder.train_file.with_name("edited")  # an editor that saves
    aside.write_bytes(folder.train_file.read_bytes().replace(b"code", b"cost"))
    aside.rename(folder.train_file)
    wait_for_step(job_dir, 50)
    shutil.rmtree(folder.path)  # somebody who tidies up
    process = job_dir.find_process()
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)  # the next attempt reads its rows again

    wait_for(server, job_dir.path.name, "succeeded")
    assert sum(event.kind == "noted" and event.key == "worker_killed.retry" for event in job_dir.read_events()) == 1
    assert read_losses(job_dir) == expected
    assert hashes(job_dir.path / "data") == held
