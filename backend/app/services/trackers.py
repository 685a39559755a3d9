"""The curves of a job for those who keep them elsewhere: TensorBoard, MLflow, Weights & Biases.

Each through its own library, none of which is needed otherwise (`pip install affinage[trackers]`). What they get: the settings
of the job, its numbers at each step, the losses before and after; no row of the data. TensorBoard and Weights & Biases write
files and send nothing (`wandb sync` does, where somebody wants that); MLflow writes into a file unless the operator has set
MLFLOW_TRACKING_URI. A job that is written again replaces what was written before.

The server lets a process of its own do it when a job ends (`python -m app.services.trackers JOB_FOLDER FOLDER NAME...`): their
threads, and whatever goes wrong in them, stay out of it.
"""

import logging
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path

from app.contracts.events import EvalLogged, StepLogged
from app.contracts.job import TrainingJob
from app.core.errors import AffinageError, Unsupported
from app.storage.job_dir import JobDir

log = logging.getLogger(__name__)

GROUP = "affinage"
"""The experiment (MLflow) or project (Weights & Biases)."""
WRITING_SECONDS = 300.0
"""A tracker that has not finished by then is given up."""


@dataclass(frozen=True)
class Point:
    """The numbers of one step."""

    step: int
    seconds: float
    """Since 1970."""
    values: dict[str, float]


@dataclass(frozen=True)
class Run:
    """What a tracker is told about a job."""

    job_id: str
    name: str
    settings: dict[str, str | int | float | bool]
    points: list[Point]


def read_run(job_dir: JobDir) -> Run:
    """Return a job as trackers see it; a step that was trained twice (a lost attempt) counts as it was trained last."""
    job = job_dir.read_job()
    points: dict[tuple[int, str], Point] = {}
    last = 0
    for event in job_dir.read_events():
        if isinstance(event, StepLogged):
            numbers = {
                "loss": event.loss,
                "learning_rate": event.learning_rate,
                "grad_norm": event.grad_norm,
                "epoch": event.epoch,
                "tokens": event.tokens,
                "tokens_per_second": event.tokens_per_second,
                "peak_bytes": event.peak_bytes,
                **event.measures,
            }
            part = "train"
        elif isinstance(event, EvalLogged):
            numbers, part = {"loss": event.loss, **event.measures}, "heldout"
        else:
            continue
        last = max(last, event.step)
        values = {f"{part}/{name}": float(value) for name, value in numbers.items()}
        points[event.step, part] = Point(event.step, datetime.fromisoformat(event.at).timestamp(), values)
    in_order = [points[key] for key in sorted(points)]
    report = job_dir.find_report()
    if report is not None and report.loss_before is not None and report.loss_after is not None:
        losses = {"report/loss_before": report.loss_before, "report/loss_after": report.loss_after}
        in_order.append(Point(last, in_order[-1].seconds if in_order else 0.0, losses))
    return Run(job.job_id, job.name, dict(_describe(job)), in_order)


def _describe(job: TrainingJob) -> Iterator[tuple[str, str | int | float | bool]]:
    yield "model", job.model.model_id
    yield "model_commit", job.model.commit
    yield "dataset", job.dataset.name
    yield "dataset_hash", job.dataset.content_hash
    yield "train_rows", job.dataset.train_rows
    yield "heldout_rows", job.dataset.heldout_rows
    yield "method", job.method
    yield "dtype", job.dtype
    yield "quantization", job.quantization
    for name, value in (*job.optimization, *((f"lora_{name}", value) for name, value in job.lora)):
        yield name, value if isinstance(value, str | int | float | bool) else str(value)


def write_tensorboard(run: Run, folder: Path) -> Path:
    """Write event files; `tensorboard --logdir FOLDER` shows them."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams.summary_v2 import hparams_pb
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    target = folder / run.job_id
    shutil.rmtree(target, ignore_errors=True)
    writer = EventFileWriter(str(target))
    writer.add_event(Event(step=0, summary=hparams_pb(run.settings, trial_id=run.job_id)))
    for point in run.points:
        values = [Summary.Value(tag=name, simple_value=value) for name, value in point.values.items()]
        writer.add_event(Event(step=point.step, wall_time=point.seconds, summary=Summary(value=values)))
    writer.close()
    return target


def write_mlflow(run: Run, folder: Path) -> Path:
    """Write a run of the experiment `affinage`; the whole MLflow's `mlflow ui --backend-store-uri FOLDER` shows it."""
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param

    folder.mkdir(parents=True, exist_ok=True)
    client = MlflowClient(tracking_uri=os.environ.get("MLFLOW_TRACKING_URI") or folder.as_uri())
    found = client.get_experiment_by_name(GROUP)
    experiment_id = found.experiment_id if found is not None else client.create_experiment(GROUP)
    tag = f"{GROUP}.job_id"
    for old in client.search_runs([experiment_id], f"tags.`{tag}` = '{run.job_id}'"):
        client.delete_run(old.info.run_id)
    run_id = client.create_run(experiment_id, tags={tag: run.job_id}, run_name=run.name).info.run_id
    client.log_batch(run_id, params=[Param(name, str(value)) for name, value in run.settings.items()])
    for point in run.points:
        metrics = [Metric(name, value, int(point.seconds * 1000), point.step) for name, value in point.values.items()]
        client.log_batch(run_id, metrics=metrics)
    client.set_terminated(run_id)
    return folder


def write_wandb(run: Run, folder: Path) -> Path:
    """Write an offline run of the project `affinage`; `wandb sync FOLDER` sends it where somebody wants that."""
    os.environ["WANDB_ERROR_REPORTING"] = "false"
    import wandb

    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob(f"wandb/offline-run-*-{run.job_id}"):
        shutil.rmtree(old, ignore_errors=True)
    quiet = wandb.Settings(console="off", disable_git=True, disable_code=True, silent=True, x_disable_stats=True)
    kept = wandb.init(
        project=GROUP, id=run.job_id, name=run.name, config=run.settings, mode="offline", dir=str(folder), settings=quiet
    )
    together: dict[int, dict[str, float]] = {}
    for point in run.points:
        together.setdefault(point.step, {"_timestamp": point.seconds}).update(point.values)
    for step, values in together.items():
        kept.log(values, step=step)
    kept.finish()
    return folder


WRITERS: dict[str, Callable[[Run, Path], Path]] = {
    "tensorboard": write_tensorboard,
    "mlflow": write_mlflow,
    "wandb": write_wandb,
}


def write_run(job_dir: JobDir, name: str, folder: Path) -> Path:
    """Write a job for the tracker `name` below `folder`, and return where. Raise Unsupported (no such tracker or library)."""
    if name not in WRITERS:
        raise Unsupported("tracker", tracker=name)
    if find_spec(name) is None:
        raise Unsupported("tracker_library", tracker=name)
    return WRITERS[name](read_run(job_dir), (folder / name).resolve())


class Trackers:
    """Writes the jobs that end for the trackers that the settings name; for none where they name none."""

    def __init__(self, names: str, data_dir: Path) -> None:
        self._names = [name.strip() for name in names.split(",") if name.strip()]
        self._data_dir = data_dir

    def tell(self, job_id: str) -> None:
        """Write the job in the background."""
        if self._names:
            threading.Thread(target=self.write, args=(job_id,), name="trackers", daemon=True).start()

    def write(self, job_id: str) -> None:
        """Write the job and wait for it; what goes wrong is in the server's log."""
        folders = [str(self._data_dir / "jobs" / job_id), str(self._data_dir / "trackers")]
        command = [sys.executable, "-m", "app.services.trackers", *folders, *self._names]
        try:
            ended = subprocess.run(command, capture_output=True, text=True, timeout=WRITING_SECONDS, check=False)
        except subprocess.TimeoutExpired:
            log.warning("Job %s was not written for %s within %.0f s.", job_id, ", ".join(self._names), WRITING_SECONDS)
            return
        if ended.returncode:
            log.warning("Job %s could not be written for every tracker: %s", job_id, ended.stderr[-2000:])


def main(job_folder: str, folder: str, *names: str) -> int:
    """Write one job for each tracker; a failing one does not keep the others from it."""
    failed = 0
    for name in names:
        try:
            write_run(JobDir(Path(job_folder)), name, Path(folder))
        except AffinageError as problem:
            log.error("%s: %s", name, problem.message)
            failed = 1
        except Exception:
            log.exception("%s could not be written", name)
            failed = 1
    return failed


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
