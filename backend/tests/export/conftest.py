"""A tiny model of one shape, really trained, whose exports are made and checked."""

import os
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import pytest

from app.export import packing
from app.export.certify import Effort
from app.storage.job_dir import JobDir, write_atomically
from app.training.comparing.after import compare_after
from app.training.engine import train
from app.training.stopping import StopWatch
from tests.engine.tiny import examples, make_job
from tests.export.shapes import LLAMA, TARGETS, write_model


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> JobDir:
    """Return the folder of a finished job on a tiny Llama."""
    root = tmp_path_factory.mktemp("trained")
    model = write_model(root / "tiny-llama", "llama")
    return trained_job(root / "jobs" / "job-1", model)


def trained_job(folder: Path, model: Path, shape: str = "llama") -> JobDir:
    targets = TARGETS.get(shape, LLAMA)
    folder.parent.mkdir(parents=True, exist_ok=True)
    job_dir = make_job(
        folder,
        model,
        train=examples(40),
        heldout=examples(30, start=40),
        targets=targets,
        rank=8,
        num_epochs=6,
        learning_rate=2e-2,
    )
    job = job_dir.read_job().model_copy(update={"report_rows": 2})
    write_atomically(job_dir.job_file, job.model_dump_json())
    stop = StopWatch(job_dir)
    compare_after(job_dir, train(job_dir, stop), stop)
    return job_dir


@pytest.fixture(autouse=True)
def few_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare fewer places: each is a request to llama.cpp."""
    monkeypatch.setattr(packing, "FULL", Effort(places=400, llama_cpp_places=60))
