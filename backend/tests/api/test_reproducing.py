"""What a job's page gives to start the same job again, each of it executed; and its capsule."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.api.conftest import CSV, dataset_id
from tests.api.test_live_server import LiveServer
from tests.engine.tiny import write_llama


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LiveServer, dict[str, Any]]]:
    """Return a live server and a job that waits in its queue behind nothing: its trainer is asked to stop at once."""
    model = write_llama(tmp_path_factory.mktemp("models") / "tiny-llama")
    live = LiveServer(tmp_path_factory.mktemp("live") / "data", model_roots=str(model.parent))
    live.start()
    try:
        body = {
            "dataset_id": dataset_id(live.client),
            "model_name": str(model),
            "num_epochs": 3,
            "learning_rate": 0.0123,
            "use_rslora": True,
            "target_modules": ["q_proj", "v_proj"],
            "early_stopping": 0,
            "exports": ["merged"],
        }
        started = live.client.post("/api/start-finetuning", json=body)
        assert started.status_code == 201, started.text
        live.client.post(f"/api/jobs/{started.json()['job_id']}/cancel").raise_for_status()
        yield live, live.client.get(f"/api/jobs/{started.json()['job_id']}").json()
    finally:
        live.end(signal.SIGTERM)


def newest(live: LiveServer, known: set[str]) -> dict[str, Any]:
    """Return the one job that is not among `known`, and cancel it."""
    (found,) = [job["job_id"] for job in live.client.get("/api/jobs").json()["jobs"] if job["job_id"] not in known]
    detail: dict[str, Any] = live.client.get(f"/api/jobs/{found}").json()
    live.client.post(f"/api/jobs/{found}/cancel").raise_for_status()
    return detail


@pytest.mark.parametrize("way", ["config", "cli", "curl", "python"])
def test_each_way_to_start_again_makes_the_very_same_job(
    server: tuple[LiveServer, dict[str, Any]], tmp_path: Path, way: str
) -> None:
    live, job = server
    if way == "curl" and shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    known = {each["job_id"] for each in live.client.get("/api/jobs").json()["jobs"]}
    text = job["commands"][way]
    affinage = [sys.executable, "-m", "app.cli"]
    if way == "config":
        (tmp_path / "job.json").write_text(text, "utf-8")
        command = [*affinage, "jobs", "start", str(tmp_path / "job.json")]
    elif way == "cli":
        name, *arguments = shlex.split(text)
        assert name == "affinage"
        command = [*affinage, *arguments, "--detach"]
    elif way == "curl":
        command = [*shlex.split(text), "--fail", "--silent", "--noproxy", "*"]
    else:
        # Following the job to its end is what the lines do last; here it is enough that they started it.
        command = [sys.executable, "-c", text.replace("        print(", "        break\n        print(")]
    done = subprocess.run(command, env=live.environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    again = newest(live, known)
    assert again["request"] == job["request"]
    assert again["model_id"] == job["model_id"] and again["dataset_id"] == job["dataset_id"]
    assert {name: value["value"] for name, value in again["plan"]["resolved"].items()} == {
        name: value["value"] for name, value in job["plan"]["resolved"].items()
    }


def test_the_request_of_a_job_is_a_valid_start_and_names_what_was_chosen(server: tuple[LiveServer, dict[str, Any]]) -> None:
    _, job = server
    request = job["request"]
    assert request["learning_rate"] == 0.0123 and request["exports"] == ["merged"] and request["seed"] == 42
    assert json.loads(job["commands"]["config"]).items() <= request.items()


def test_a_capsule_tells_everything_and_holds_no_text_of_the_data(server: tuple[LiveServer, dict[str, Any]]) -> None:
    live, job = server
    answer = live.client.get(f"/api/jobs/{job['job_id']}/capsule")
    assert answer.status_code == 200 and f"capsule-{job['job_id']}.json" in answer.headers["content-disposition"]
    capsule = answer.json()
    assert len(capsule["job"]["dataset"]["content_hash"]) == 64 and capsule["job"]["model"]["commit"]
    assert capsule["job"]["optimization"]["seed"] == 42 and capsule["job"]["versions"]["affinage"]
    assert "<|im_start|>" in capsule["chat_template"] and capsule["request"]["learning_rate"] == 0.0123
    assert "code of box" in CSV and "code of box" not in answer.text
    environment = {**live.environment, "LC_ALL": "C.UTF-8"}
    told = subprocess.run(
        [sys.executable, "-m", "app.cli", "jobs", "capsule", job["job_id"]],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(told.stdout)["job"] == capsule["job"]
