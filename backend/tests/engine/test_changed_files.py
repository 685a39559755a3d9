"""A model folder or rows that somebody changes under a job: never another run than the one that was asked for."""

import shutil
from pathlib import Path

import pytest

from app.contracts.events import Noted
from app.core.errors import DatasetChanged, ModelUnavailable
from app.storage.job_dir import JobDir, write_atomically
from app.storage.model_store import fingerprint
from app.training.engine import train
from app.training.stopping import Stopped, StopWatch
from tests.engine.test_engine import StopAfter
from tests.engine.tiny import examples, make_job


def make(folder: Path, model: Path) -> JobDir:
    """Return a job of 4 steps that knows the version of its model."""
    job_dir = make_job(folder, model, train=examples(16), heldout=[])
    job = job_dir.read_job()
    known = job.model.model_copy(update={"commit": fingerprint(model)})
    write_atomically(job_dir.job_file, job.model_copy(update={"model": known}).model_dump_json())
    return job_dir


def flip_last_byte(file: Path) -> None:
    content = file.read_bytes()
    file.unlink()  # the inode may be mapped by a run that goes on
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def test_an_attempt_on_other_weights_than_the_job_began_with_is_refused(llama: Path, tmp_path: Path) -> None:
    model = Path(shutil.copytree(llama, tmp_path / "model"))
    job_dir = make(tmp_path / "job", model)
    flip_last_byte(model / "model.safetensors")
    with pytest.raises(ModelUnavailable, match="no longer holds the files"):
        train(job_dir, StopWatch(job_dir))
    shutil.rmtree(model)
    with pytest.raises(ModelUnavailable):
        train(job_dir, StopWatch(job_dir))


def test_weights_that_change_while_the_job_trains_are_mentioned(llama: Path, tmp_path: Path) -> None:
    model = Path(shutil.copytree(llama, tmp_path / "model"))
    job_dir = make(tmp_path / "job", model)

    class ChangesTheModel(StopWatch):
        changed = False

        def check(self) -> None:
            if not self.changed and b"step_logged" in job_dir.events_file.read_bytes():
                flip_last_byte(model / "model.safetensors")
                self.changed = True
            super().check()

    train(job_dir, ChangesTheModel(job_dir))
    assert "model_changed" in [event.key for event in job_dir.read_events() if isinstance(event, Noted)]


@pytest.mark.parametrize(
    ("forgotten", "reason"), [(False, "that an earlier attempt"), (True, "no longer those of the checkpoint")]
)
def test_a_run_does_not_go_on_with_other_rows_than_its_checkpoint_saw(
    llama: Path, tmp_path: Path, forgotten: bool, reason: str
) -> None:
    """Also where the file of encoded rows is gone, as in a restored backup."""
    job_dir = make(tmp_path / "job", llama)
    with pytest.raises(Stopped):
        train(job_dir, StopAfter(job_dir, 2, job_dir.pause_file))
    job_dir.pause_file.unlink()
    rows = job_dir.train_file.read_bytes()
    job_dir.train_file.write_bytes(rows.replace(b"blue cheese", b"old cheese"))
    if forgotten:
        shutil.rmtree(job_dir.encoded)
    with pytest.raises(DatasetChanged, match=reason):
        train(job_dir, StopWatch(job_dir))
    job_dir.train_file.write_bytes(rows)
    if forgotten:
        shutil.rmtree(job_dir.encoded)
    assert train(job_dir, StopWatch(job_dir)).steps == 4


def test_an_attempt_that_saved_nothing_is_not_followed_by_one_on_other_rows(llama: Path, tmp_path: Path) -> None:
    """The job's rows are links: an editor that writes into the data set's own file writes into the job's."""
    job_dir = make(tmp_path / "job", llama)

    class Killed(StopWatch):
        def check(self) -> None:
            if b"step_logged" in job_dir.events_file.read_bytes():
                raise KeyboardInterrupt
            super().check()

    with pytest.raises(KeyboardInterrupt):
        train(job_dir, Killed(job_dir))
    shutil.rmtree(job_dir.checkpoints, ignore_errors=True)
    with job_dir.train_file.open("r+b") as file:
        content = file.read()
        file.seek(0)
        file.write(content.replace(b"blue cheese", b"old  cheese"))
    with pytest.raises(DatasetChanged, match="that an earlier attempt"):
        train(job_dir, StopWatch(job_dir))
