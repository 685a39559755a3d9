"""What trackers get of a job, written by their own libraries and read back by them."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.contracts.events import EvalLogged, StepLogged
from app.core.errors import Unsupported
from app.services import trackers
from app.services.trackers import Trackers, read_run, write_run
from app.storage.job_dir import JobDir
from tests.unit.jobs.conftest import make_job

STEPS = 4


@pytest.fixture
def job_dir(tmp_path: Path) -> JobDir:
    """A job of four steps whose third was trained twice, as after a lost attempt."""
    made = JobDir(tmp_path / "data" / "jobs" / "job-tracked")
    made.create(make_job("job-tracked"))
    for step in (1, 2, 3, 3, 4):
        made.append(
            StepLogged(
                step=step,
                total_steps=STEPS,
                epoch=step / STEPS,
                loss=3.0 - step / 2,
                learning_rate=1e-4,
                grad_norm=1.0,
                tokens=100 * step,
                tokens_per_second=50.0,
                peak_bytes=1 << 30,
                step_seconds=2.0,
                eta_seconds=0.0,
            )
        )
    made.append(EvalLogged(step=STEPS, epoch=1.0, loss=1.25, rows=5, tokens=40, measures={"accuracy": 0.75}))
    return made


def test_a_step_that_was_trained_twice_counts_once(job_dir: JobDir) -> None:
    run = read_run(job_dir)

    assert [point.step for point in run.points if "train/loss" in point.values] == [1, 2, 3, 4]
    assert [point.values for point in run.points if "heldout/loss" in point.values] == [
        {"heldout/loss": 1.25, "heldout/accuracy": 0.75}
    ]
    assert run.settings["learning_rate"] == job_dir.read_job().optimization.learning_rate
    assert run.settings["lora_rank"] == job_dir.read_job().lora.rank


def test_tensorboard_reads_the_curve_and_a_second_time_replaces_the_first(job_dir: JobDir, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="the extra `trackers` is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    write_run(job_dir, "tensorboard", tmp_path / "out")
    written = write_run(job_dir, "tensorboard", tmp_path / "out")

    assert written == tmp_path / "out" / "tensorboard" / "job-tracked"
    curves = EventAccumulator(str(written))
    curves.Reload()
    assert [(point.step, point.value) for point in curves.Scalars("train/loss")] == [(1, 2.5), (2, 2.0), (3, 1.5), (4, 1.0)]
    assert [point.value for point in curves.Scalars("heldout/accuracy")] == [0.75]


def test_mlflow_reads_the_curve_and_a_second_time_replaces_the_first(
    job_dir: JobDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow", reason="the extra `trackers` is not installed")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    from mlflow import MlflowClient

    write_run(job_dir, "mlflow", tmp_path / "out")
    written = write_run(job_dir, "mlflow", tmp_path / "out")

    client = MlflowClient(tracking_uri=written.as_uri())
    experiment = client.get_experiment_by_name(trackers.GROUP)
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, "train/loss")] == [
        (1, 2.5),
        (2, 2.0),
        (3, 1.5),
        (4, 1.0),
    ]
    assert run.info.status == "FINISHED"
    assert run.data.params["lora_rank"] == str(job_dir.read_job().lora.rank)


def read_wandb_records(content: bytes) -> Iterator[bytes]:
    """Yield the records of an offline run: LevelDB's log format after a head of 7 bytes (leveldb, doc/log_format.md)."""
    block, head, place, record = 32768, 7, 7, b""
    while place + head <= len(content):
        if block - place % block < head:
            place += block - place % block
            continue
        length, kind = int.from_bytes(content[place + 4 : place + 6], "little"), content[place + 6]
        record += content[place + head : place + head + length]
        place += head + length
        if kind in (1, 4):  # whole, or the last part
            yield record
            record = b""


def test_weights_and_biases_writes_an_offline_run(job_dir: JobDir, tmp_path: Path) -> None:
    pytest.importorskip("wandb", reason="the extra `trackers` is not installed")
    from wandb.proto import wandb_internal_pb2

    write_run(job_dir, "wandb", tmp_path / "out")
    written = write_run(job_dir, "wandb", tmp_path / "out")

    (file,) = written.glob("wandb/offline-run-*-job-tracked/*.wandb")
    losses = []
    for data in read_wandb_records(file.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        items = {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
        if "train/loss" in items:
            losses.append(json.loads(items["train/loss"]))
    assert losses == [2.5, 2.0, 1.5, 1.0]


def test_an_unknown_tracker_and_a_missing_library_are_told(
    job_dir: JobDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Unsupported, match="no tracker"):
        write_run(job_dir, "clipboard", tmp_path)
    monkeypatch.setattr(trackers, "find_spec", lambda _: None)
    with pytest.raises(Unsupported, match="wandb is not installed"):
        write_run(job_dir, "wandb", tmp_path)


def test_the_server_goes_on_where_a_tracker_fails(job_dir: JobDir, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Trackers("clipboard", tmp_path / "data").write("job-tracked")

    assert "no tracker" in caplog.text
