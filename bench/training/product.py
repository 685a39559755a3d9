"""The product as a trainer in the comparison: its own job, its own process, its own events."""

import shutil
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from workload import LEARNING_RATE, RANK, SEED, Workload

from app.contracts.events import Noted, PhaseStarted, StepLogged
from app.core.settings import Settings
from app.services import dataset_service
from app.services.finetuning_service import finetune
from app.services.studio import open_studio
from app.storage.job_dir import JobDir
from app.storage.model_store import EMBEDDED_ID, fingerprint

NEVER_SECONDS = 1e9


class Product:
    """A data folder of the bench's own, in which `finetune` writes jobs that the bench then runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write_job(self, workload: Workload, target: Path, *, file: Path | None = None, **changes: Any) -> JobDir:
        """Return a job folder at `target` for the workload's rows. `changes` are options of `finetune`.

        The product imports `file`, or else the workload's rows.

        The product plans and writes the job. Two things are then changed: the rows are exactly the workload's, none held
        out (the judge measures them for every trainer alike), and no checkpoint falls into the measurement.
        """
        shape = workload.shape
        options = {
            "num_epochs": shape.epochs, "batch_size": shape.batch, "gradient_accumulation_steps": 1, "max_length": shape.length,
            "learning_rate": LEARNING_RATE, "lr_scheduler": "linear", "warmup_ratio": 0.0, "lora_rank": RANK,
            "lora_alpha": 2 * RANK, "seed": SEED, "dtype": "bfloat16", "gradient_checkpointing": False, **changes,
        }  # fmt: skip
        settings = Settings(data_dir=self.folder / "data", model_roots=str(workload.model.parent), trace_plans=False)
        studio = open_studio(settings)
        try:
            model = EMBEDDED_ID if shape.model == "embedded" else str(workload.model)
            source_file = file or workload.train_file
            dataset = dataset_service.import_upload(studio, source_file, filename=source_file.name, name=target.name).dataset_id
            job = studio.job_dir(finetune(studio, dataset, model, device_id="cpu", **options).job_id).read_job()
        finally:
            studio.close()
        own_folder = {"kind": "folder", "path": str(workload.model), "commit": fingerprint(workload.model), "ready": True}
        source = job.model.model_copy(update=own_folder)
        heldout = job.dataset.model_copy(update={"train_rows": shape.rows, "heldout_rows": 0})
        written = JobDir(target)
        written.create(
            job.model_copy(
                update={"model": source, "dataset": heldout, "job_id": target.name, "checkpoint_every_seconds": NEVER_SECONDS}
            )
        )
        shutil.copyfile(workload.train_file, written.train_file)
        written.heldout_file.touch()
        return written


def read_steps(job: JobDir, workload: Workload) -> dict[str, Any]:
    """Return what the peers report too, from the job's events."""
    steps = [event for event in job.read_events() if isinstance(event, StepLogged)]
    return {
        "step_ends": [read_time(event.at) for event in steps],
        "step_tokens": workload.step_tokens(),
        "losses": [event.loss for event in steps],
    }


def read_phases(job: JobDir) -> dict[str, float]:
    """Return the seconds of each stage before the first step, and those of the probe."""
    events = list(job.read_events())
    first = next(event for event in events if isinstance(event, StepLogged))
    marks = [event for event in events if isinstance(event, PhaseStarted) and event.seq < first.seq]
    spans = {mark.phase: read_time(after.at) - read_time(mark.at) for mark, after in pairwise([*marks, first])}
    probes = [event for event in events if isinstance(event, Noted) and event.key.startswith("probe.")]
    return spans | {"probe": sum(event.params.get("seconds", 0.0) for event in probes), "first_step": first.step_seconds}


def read_time(at: str) -> float:
    """Return an event's time in seconds since the epoch."""
    return datetime.fromisoformat(at).timestamp()
