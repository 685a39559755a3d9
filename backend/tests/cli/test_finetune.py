"""A job from the command line without a server: trained, listed, asked, cancelled."""

import importlib.util
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.command import Affinage


@pytest.fixture
def tuning(affinage: Affinage, tiny_model: Path) -> Affinage:
    """The command, allowed to use the tiny model."""
    affinage.environment["AFFINAGE_MODEL_ROOTS"] = str(tiny_model.parent)
    return affinage


@pytest.fixture
def recipe(questions: Path, tiny_model: Path) -> list[str]:
    """Arguments of a job that takes seconds."""
    target = ["--target-modules", "q_proj,v_proj", "--lora-rank", "4", "--max-length", "64"]
    return [
        str(questions),
        "--model",
        str(tiny_model),
        *target,
        "--batch-size",
        "8",
        "--gradient-accumulation-steps",
        "1",
        "--report-rows",
        "0",
    ]


@pytest.mark.slow
def test_a_job_trains_reports_and_answers(tuning: Affinage, recipe: list[str]) -> None:
    outcome = tuning("finetune", *recipe, "--num-epochs", "2", "--learning-rate", "0.01", "--json", seconds=240)
    assert outcome.status == 0, outcome.stdout + outcome.stderr
    job, report = outcome.document["job"], outcome.document["report"]
    assert job["status"] == "succeeded"
    assert job["progress"]["step"] == job["progress"]["total_steps"] == 10
    assert report["loss_after"] < report["loss_before"]
    assert (Path(job["adapter_path"]) / "adapter_model.safetensors").is_file()

    listed = tuning("jobs", "--json").document["jobs"]
    assert [(entry["job_id"], entry["status"]) for entry in listed] == [(job["job_id"], "succeeded")]
    assert "finetune" in tuning("jobs", "show", "last").stdout
    events = tuning("jobs", "follow", "last", "--json").lines
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert tuning("jobs", "cancel", "last", "--json").document["error"]["code"] == "conflict"

    capsule = tuning.data_dir / "capsule.json"
    assert tuning("jobs", "capsule", "last", "--to", str(capsule)).status == 0
    assert json.loads(capsule.read_text("utf-8"))["job"]["job_id"] == job["job_id"]
    check_tracked(tuning, job["job_id"])

    # The line that the job shows starts the same job again: it is a valid command with every value spelled out.
    again = shlex.split(job["commands"]["cli"])
    assert again[:2] == ["affinage", "finetune"]
    plan = tuning("plan", *again[2:], "--json").document
    assert {name: entry["value"] for name, entry in plan["resolved"].items()} == {
        name: entry["value"] for name, entry in job["plan"]["resolved"].items()
    }

    asked = tuning("chat", "last", "1 + 1?", "--compare", "--max-new-tokens", "4", "--json", seconds=240)
    assert asked.status == 0, asked.stdout + asked.stderr
    assert set(asked.document["answers"]) == {"tuned", "base"}


def check_tracked(tuning: Affinage, job_id: str) -> None:
    """TensorBoard's own reader finds ten steps; where it is not installed, the command says what to install."""
    folder = tuning.data_dir / "elsewhere"
    tracked = tuning("jobs", "track", "last", "tensorboard", "--to", str(folder), "--json", seconds=240)
    if importlib.util.find_spec("tensorboard") is None:
        assert tracked.status == 1
        assert "[trackers]" in tracked.document["error"]["hint"]
        assert not folder.exists()
        return
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert tracked.document["folder"] == str(folder / "tensorboard" / job_id)
    curves = EventAccumulator(tracked.document["folder"])
    curves.Reload()
    assert [point.step for point in curves.Scalars("train/loss")] == list(range(1, 11))


@pytest.mark.slow
def test_a_detached_job_ends_by_itself_and_can_be_followed(tuning: Affinage, recipe: list[str]) -> None:
    left = tuning("finetune", *recipe, "--num-epochs", "2", "--detach", "--json", seconds=240)
    assert left.status == 0, left.stdout + left.stderr
    job_id = left.document["job_id"]
    followed = tuning("jobs", "follow", job_id, seconds=240)
    assert followed.status == 0, followed.stdout + followed.stderr
    assert tuning("jobs", "show", job_id, "--json").document["job"]["status"] == "succeeded"


@pytest.mark.slow
def test_interrupting_a_job_in_a_script_cancels_it(tuning: Affinage, recipe: list[str]) -> None:
    arguments = [sys.executable, "-m", "app.cli", "finetune", *recipe, "--num-epochs", "1000", "--json"]
    process = subprocess.Popen(
        arguments, env=tuning.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        wait_for_steps(tuning, seconds=200)
        os.kill(process.pid, signal.SIGINT)
        output, errors = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 1, output + errors
    assert '"cancelled"' in output


def wait_for_steps(tuning: Affinage, seconds: float) -> None:
    """Wait until the only job has made a step."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if any('"step_logged"' in log.read_text() for log in (tuning.data_dir / "jobs").glob("*/events.jsonl")):
            return
        time.sleep(0.2)
    raise AssertionError("no step was made")
