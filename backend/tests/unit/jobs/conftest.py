"""A studio's lower half: data folder, database, and a supervisor whose trainer is a small scripted process."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.contracts.events import JobEvent, StatusChanged, job_event
from app.contracts.job import DatasetSource, Lora, ModelSource, Optimization, TrainingJob
from app.contracts.plan import MemoryParts, Plan
from app.contracts.status import JobStatus
from app.core.settings import Settings
from app.jobs.broker import Broker
from app.jobs.executors.local import LocalExecutor
from app.jobs.ingest import ingest
from app.jobs.supervisor import Supervisor
from app.storage.db import Database
from app.storage.folder_identity import read_folder_id
from app.storage.job_dir import JobDir
from app.storage.migrate import upgrade
from app.storage.repositories import Events, Jobs
from app.storage.tables import JobRow

SCRIPTED = Path(__file__).with_name("scripted_trainer.py")
RUNNING = {"status": "running"}


def scripted_command(folder: Path, micro_batch_size: int | None) -> list[str]:
    smaller = ["--micro-batch", str(micro_batch_size)] if micro_batch_size else []
    return [sys.executable, str(SCRIPTED), str(folder), *smaller]


def make_job(job_id: str, *, micro_batch_size: int = 4, device_id: str = "cpu") -> TrainingJob:
    parts = MemoryParts(weights=0, adapter=0, gradients=0, optimizer=0, activations=0, logits=0, workspace=0, context=0)
    plan = Plan(
        model_id="tiny",
        device_id=device_id,
        verdict="fits",
        peak_bytes=0,
        peak_bytes_upper=0,
        available_bytes=0,
        parts=parts,
        seconds_p50=0,
        seconds_p90=0,
        steps=100,
        train_rows=1,
        heldout_rows=0,
        resolved={},
        reasons=[],
        warnings=[],
    )
    return TrainingJob(
        job_id=job_id,
        name=f"job {job_id}",
        created_at="2026-11-22T00:00:00.000Z",
        model=ModelSource(model_id="tiny", display_name="Tiny", kind="folder", commit="0" * 40, path="/nowhere", ready=True),
        dataset=DatasetSource(dataset_id="d", name="d", content_hash="0" * 64, train_rows=1, heldout_rows=0),
        lora=Lora(rank=1, alpha=1, dropout=0.0, target_modules=["x"], fan_in_fan_out=False),
        optimization=Optimization(
            num_epochs=1,
            learning_rate=1e-3,
            micro_batch_size=micro_batch_size,
            gradient_accumulation_steps=1,
            max_length=8,
            long_rows="truncate",
            weight_decay=0.0,
            warmup_ratio=0.0,
            lr_scheduler="constant",
            max_grad_norm=1.0,
            gradient_checkpointing=False,
            seed=1,
        ),
        device_id=device_id,
        dtype="float32",
        quantization="none",
        checkpoint_every_seconds=3600.0,
        plan=plan,
        versions={},
    )


class Bench:
    """Jobs, their scripts, and the supervisors that come and go over them."""

    def __init__(self, data_dir: Path) -> None:
        self.settings = Settings(data_dir=data_dir, stop_grace_seconds=0.5)
        (data_dir / "jobs").mkdir(parents=True)
        upgrade(self.settings.resolved_database_url, data_dir)
        self.database = Database(self.settings.resolved_database_url)
        self.broker = Broker()
        self.released: list[str] = []
        self._supervisors: list[Supervisor] = []

    def supervisor(self) -> Supervisor:
        """Return a new supervisor, as a new server would make it."""
        made = Supervisor(
            self.settings, self.database, self.broker, LocalExecutor(scripted_command), release_device=self.released.append
        )
        self._supervisors.append(made)
        return made

    def folder(self, job_id: str) -> JobDir:
        return JobDir(self.settings.data_dir / "jobs" / job_id)

    def queue(self, job_id: str, *scripts: list[dict[str, Any]], **fields: Any) -> JobDir:
        """Queue a job whose nth attempt follows the nth script (the last one for all further attempts)."""
        job, job_dir = make_job(job_id, **fields), self.folder(job_id)
        job_dir.create(job)
        (job_dir.path / "script.json").write_text(json.dumps(scripts))
        job_dir.append(StatusChanged(status=JobStatus.QUEUED))
        with self.database.writing() as session:
            ingest(session, Jobs(session).add(job, read_folder_id(self.settings.data_dir)), job_dir)
        return job_dir

    def row(self, job_id: str) -> JobRow:
        with self.database.reading() as session:
            row = Jobs(session).find(job_id)
        assert row is not None
        return row

    def events(self, job_id: str) -> list[JobEvent]:
        with self.database.reading() as session:
            return [job_event.validate_json(row.body) for row in Events(session).after(job_id, 0)]

    def wait(self, check: Callable[[], bool], seconds: float = 120.0) -> None:
        deadline = time.monotonic() + seconds
        while not check():
            assert time.monotonic() < deadline, "it did not happen in time"
            time.sleep(0.02)

    def wait_for(self, job_id: str, status: str) -> JobRow:
        self.wait(lambda: self.row(job_id).status == status)
        return self.row(job_id)

    def pid(self, job_id: str) -> int:
        identity = self.folder(job_id).find_process()
        assert identity is not None
        return identity.pid

    def close(self) -> None:
        for supervisor in self._supervisors:
            supervisor.stop()
        for folder in (self.settings.data_dir / "jobs").iterdir():
            identity = JobDir(folder).find_process()
            if identity is not None:
                try:
                    os.killpg(identity.pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
        self.database.close()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path / "data")
    yield made
    made.close()
